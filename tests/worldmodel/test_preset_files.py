import pytest

from worldmodel import preset_files
from worldmodel.preset_files import PresetError, preset_names, preset_path


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """An installation whose presets lie inside the package, as a wheel ships them."""
    package = tmp_path / "worldmodel"
    for name in ("surround7", "front1"):
        path = package / "presets" / "rigs" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"name: {name}\n")
    monkeypatch.setattr(preset_files, "PACKAGE_DIR", package)
    return package


def test_an_installed_wheel_finds_its_own_presets(wheel):
    assert preset_names("rigs") == ("front1", "surround7")
    assert preset_path("rigs", "front1") == wheel / "presets" / "rigs" / "front1.yaml"


def test_a_checkout_finds_configs(tmp_path, monkeypatch):
    (tmp_path / "configs" / "rigs").mkdir(parents=True)
    (tmp_path / "configs" / "rigs" / "mine.yaml").write_text("name: mine\n")
    monkeypatch.setattr(preset_files, "PACKAGE_DIR", tmp_path / "worldmodel")
    assert preset_names("rigs") == ("mine",)


def test_an_unknown_name_is_refused_with_the_valid_ones(wheel):
    with pytest.raises(PresetError, match="expected one of the rigs front1, surround7, got 'surround9'"):
        preset_path("rigs", "surround9")


def test_a_path_is_taken_as_it_is(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("name: own\n")
    assert preset_path("rigs", str(own)) == own


def test_a_path_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(PresetError, match=r"expected a rig file, got .*gone\.yaml', which does not exist"):
        preset_path("rigs", str(tmp_path / "gone.yaml"))


def test_a_name_cannot_leave_the_folder(wheel):
    with pytest.raises(PresetError, match="expected one of"):
        preset_path("rigs", "../rigs/front1")


def test_an_installation_without_presets_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(preset_files, "PACKAGE_DIR", tmp_path / "worldmodel")
    with pytest.raises(PresetError, match="expected presets in"):
        preset_names("rigs")
