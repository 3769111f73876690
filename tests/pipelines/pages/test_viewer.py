"""The bundle of the 3D viewer is built from its sources, and contains three.js' licence."""

import hashlib
import json
from pathlib import Path

import pipelines.pages.viewer
from pipelines.pages.viewer import viewer_script

FOLDER = Path(pipelines.pages.viewer.__file__).parent


def test_the_bundle_was_built_from_the_sources():
    sources = b"".join((FOLDER / name).read_bytes() for name in ("viewer.js", "package.json"))
    assert hashlib.sha256(sources).hexdigest() in viewer_script()[:300], "run pipelines/pages/viewer/build.sh"


def test_the_versions_are_fixed_and_the_licence_goes_along():
    versions = json.loads((FOLDER / "package.json").read_text())["devDependencies"]
    assert all(version.replace(".", "").isdigit() for version in versions.values())
    licence = (FOLDER / "LICENSE.three").read_text(encoding="utf-8")
    assert licence.startswith("The MIT License")
    assert licence.strip() in viewer_script()


def test_the_bundle_can_stand_in_a_page():
    script = viewer_script()
    assert "</script" not in script.lower()
    assert "<!--" not in script
    assert not [word for word in ("fetch(", "importScripts", "XMLHttpRequest", "eval(") if f"={word}" in script]
    assert len(script) < 700_000
