"""Real servers that more than one folder of tests stands on."""

from tests.storage.conftest import s3_server as s3_server
