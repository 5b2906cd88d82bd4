"""`imagemesh reviews picture` against a running storage: a reviewer sees quarantined pictures, blurred unless asked."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import pyvips
from click.testing import CliRunner, Result
from imagemesh.cli.main import cli

from tests.storage.running import Running, picture


async def saved(local: Running, output: Path, *arguments: str, key: str = "reviewer") -> Result:
    target = ["--storage-target", f"127.0.0.1:{local.storage.server.port}", "--api-key", key]
    command = [*target, "reviews", "picture", *arguments, "-o", str(output)]
    return await asyncio.to_thread(CliRunner().invoke, cli, command, prog_name="imagemesh")


async def test_a_quarantined_picture_is_saved_blurred_or_as_it_is(local: Running, tmp_path: Path) -> None:
    data, output = picture(1, 640, 480), tmp_path / "seen.png"
    asset = await local.put(data, tenant="other")
    result = await saved(local, output, asset.asset_id)
    assert result.exit_code == 0, result.output
    assert pyvips.Image.new_from_file(str(output)).width == 24
    assert (await saved(local, output, asset.asset_id, "--reveal")).exit_code == 0
    assert output.read_bytes() == data


@pytest.mark.parametrize(("key", "reason"), [("acme", "NOT_PUBLISHED"), ("other", "ASSET_NOT_FOUND")])
async def test_nobody_else_sees_it(local: Running, tmp_path: Path, key: str, reason: str) -> None:
    asset = await local.put(picture(1))
    result = await saved(local, tmp_path / "seen.png", asset.asset_id, "--reveal", key=key)
    assert (result.exit_code, reason in result.stderr) == (1, True)
    assert not (tmp_path / "seen.png").exists()
