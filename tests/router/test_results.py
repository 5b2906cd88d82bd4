"""Two jobs are the same to the cache only when everything that decides the picture is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from imagemesh.router.v1 import job_pb2
from imagemesh.type.v1 import image_pb2

from services.router.results import cache_key
from tests.router.rig import Rig
from tests.router.stores import Stores

ONE, OTHER = image_pb2.ImageSource(asset_id="ast_1"), image_pb2.ImageSource(asset_id="ast_2")

PAIRS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"images": [ONE]}, {"images": [OTHER]}),
    ({"images": [ONE], "mask": ONE}, {"images": [ONE], "mask": OTHER}),
    (
        {"controls": [job_pb2.Control(kind="canny", image=ONE)]},
        {"controls": [job_pb2.Control(kind="depth", image=ONE)]},
    ),
    (
        {"controls": [job_pb2.Control(kind="canny", image=ONE)]},
        {"controls": [job_pb2.Control(kind="canny", image=ONE, scale=0)]},
    ),
    ({"outpaint": job_pb2.OutpaintMargins(left=1)}, {"outpaint": job_pb2.OutpaintMargins(right=1)}),
    ({"upscale_factor": 2}, {"upscale_factor": 4}),
    ({"strength": 0.0}, {}),
    ({"options": job_pb2.JobOptions(routing=job_pb2.Routing(may_drop=["steps"]))}, {"options": job_pb2.JobOptions()}),
]


async def key(rig: Rig, fields: dict[str, Any]) -> str:
    await rig.submit(**fields)
    run = rig.runs.open(await rig.claim(), rig.grip)
    return cache_key(run, "v1")


@pytest.mark.parametrize(("one", "other"), PAIRS)
async def test_what_differs_is_another_result(
    stores: Stores, tmp_path: Path, one: dict[str, Any], other: dict[str, Any]
) -> None:
    rig = Rig(stores, tmp_path)
    assert await key(rig, one) != await key(rig, other)
    assert await key(rig, one) == await key(rig, one)
