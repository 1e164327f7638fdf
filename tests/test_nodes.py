"""The nodes without ComfyUI: their schemas, source, pages and translations.

``golden/node_schemas.json`` records what is public of them: ids, types, defaults and order, which
saved workflows rely on. ``BFR_RECORD=1 python -m pytest tests/test_nodes.py`` records it again
after a change; only ever add to it.
"""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from spandrel import ImageModelDescriptor, ModelLoader
from spandrel.architectures.NAFNet import NAFNet

from bfr.files.weights import write_state_dict
from bfr.finetune.settings import PRESETS, FinetuneSettings, adjusted
from bfr.prior.guidance import Guidance
from bfr.records import Face, FaceSet
from harness import stand_in
from tests.comfy_cli import run_comfy_cli
from tests.node_schemas import contract
from tests.pair_sets import restorer as described

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = Path(__file__).with_name("golden") / "node_schemas.json"
INFO = stand_in.object_info()
SCHEMAS = stand_in.schemas()
SWEEP = INFO["BFR_SweepGuidance"]
SOURCES = sorted((ROOT / "nodes").glob("*.py"))
CATEGORIES = {
    f"image/face restoration/{name}"
    for name in ("restore", "targets", "tune", "measure", "examples")
}


def inputs_of(info: dict) -> dict[str, list]:
    return {**info["input"].get("required", {}), **info["input"].get("optional", {})}


@cache
def node_classes() -> dict[str, ast.ClassDef]:
    """The classes that define a node, by node id, read from the source."""
    found = {}
    for path in SOURCES:
        for item in ast.parse(path.read_text("utf-8")).body:
            if isinstance(item, ast.ClassDef):
                for node in ast.walk(item):
                    if isinstance(node, ast.keyword) and node.arg == "node_id":
                        found[ast.literal_eval(node.value)] = item
    return found


def sampling_parameters() -> list[str]:
    """The inputs that nodes pass on as ``guidance``."""
    return [field.name for field in fields(Guidance) if field.name != "batch_size"]


@cache
def chain_inputs() -> tuple[list[str], set[str]]:
    """The inputs that nodes pass on as ``chain``, and which of them a prompt may leave out."""
    with stand_in.comfyui(Path("/nowhere")) as load:
        found = fields(load("chain").ChainInputs)
    return [each.name for each in found], {each.name for each in found if each.default != MISSING}


def test_what_is_public_is_as_recorded():
    """Workflows of users name ids and count on types, defaults and order."""
    found = {node_id: contract(info) for node_id, info in sorted(INFO.items())}
    if os.environ.get("BFR_RECORD"):
        GOLDEN.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", "utf-8")
    recorded = json.loads(GOLDEN.read_text("utf-8"))
    assert found == recorded, "record them again (see above), or keep what users rely on"
    for node_id, each in recorded.items():
        assert list(found[node_id]["inputs"]) == list(each["inputs"]), "widgets keep their order"


def test_every_node_in_the_source_is_listed():
    assert set(node_classes()) == set(SCHEMAS)


@pytest.mark.parametrize("node_id", sorted(SCHEMAS))
def test_execute_takes_the_recorded_inputs(node_id: str):
    """Ids are public: workflows of users name them. Add new ones, never rename or remove."""
    execute = next(
        item
        for item in node_classes()[node_id].body
        if isinstance(item, ast.FunctionDef) and item.name == "execute"
    )
    names = [argument.arg for argument in execute.args.args[1:]]
    kwarg = execute.args.kwarg.arg if execute.args.kwarg else None
    chain, chain_defaults = chain_inputs()
    shared = {
        None: [],
        "guidance": sampling_parameters(),
        "recipe": list(AS_THE_PRESET),
        "chain": chain,
    }[kwarg]
    assert sorted(names + shared) == sorted(slot.id for slot in SCHEMAS[node_id].inputs)
    optional = {*names[len(names) - len(execute.args.defaults) :]}
    # `Guidance` and the presets have their defaults.
    optional |= {"freedom", "detail", "hold", "error", "identity"} & {*shared}
    optional |= chain_defaults & {*shared}
    assert optional == set(INFO[node_id]["input"].get("optional", {}))


@pytest.mark.parametrize("node_id", sorted(SCHEMAS))
def test_node_explains_itself(node_id: str):
    info = INFO[node_id]
    assert info["category"] in CATEGORIES
    assert info["display_name"] and info["description"] and len(info["search_aliases"]) >= 3
    assert all(options["tooltip"].endswith(".") for _, options in inputs_of(info).values())
    assert all(options["display_name"] for _, options in inputs_of(info).values())
    assert all(tooltip.endswith(".") for tooltip in info["output_tooltips"])
    ids = [slot.id for slot in (*SCHEMAS[node_id].inputs, *SCHEMAS[node_id].outputs)]
    assert len(set(ids)) == len(ids), "one id for two inputs or outputs"


@pytest.mark.parametrize(
    "words", ["face detailer", "adetailer", "face upscale", "denoise face", "deblur", "face mask"]
)
def test_what_people_look_for_finds_a_node(words: str):
    assert any(words in info["search_aliases"] for info in INFO.values())


@pytest.mark.parametrize("node_id", sorted(SCHEMAS))
def test_help_page_names_every_input_and_output(node_id: str):
    page = (ROOT / "web" / "docs" / f"{node_id}.md").read_text("utf-8")
    info = INFO[node_id]
    assert page.startswith(f"# {info['display_name']}\n")
    names = [options["display_name"] for _, options in inputs_of(info).values()]
    assert not [name for name in (*names, *info["output_name"]) if f"**{name}**" not in page]


def test_no_help_page_without_a_node():
    assert {path.stem for path in (ROOT / "web" / "docs").glob("*.md")} == set(SCHEMAS)


def test_the_readme_lists_every_node_once():
    text = (ROOT / "README.md").read_text("utf-8").split("| node | what it does |")[1]
    cells = [row.split("|")[1].strip() for row in text.split("\n\n")[0].splitlines()[2:]]
    names = [name for cell in cells if "**" not in cell for name in cell.split(", ")]
    assert sorted(names) == sorted(schema.display_name for schema in SCHEMAS.values())


@pytest.mark.parametrize("path", sorted((ROOT / "locales").glob("*/nodeDefs.json")), ids=str)
def test_translations_name_what_exists(path: Path):
    texts = json.loads(path.read_text("utf-8"))
    assert set(texts) == set(INFO)
    for node_id, text in texts.items():
        assert text["display_name"] and text["description"]
        assert set(text["inputs"]) == set(inputs_of(INFO[node_id]))
        assert set(text["outputs"]) == {str(i) for i in range(len(INFO[node_id]["output"]))}
        for part in (*text["inputs"].values(), *text["outputs"].values()):
            assert part["name"] and part["tooltip"]


def test_only_the_nodes_import_comfyui_and_nothing_absolutely():
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert node.level or (node.module or "").split(".")[0] != "bfr", path
            elif isinstance(node, ast.Import):
                assert not [a.name for a in node.names if a.name.split(".")[0] == "bfr"], path


def test_comfy_cli_finds_no_fault_with_the_pack(tmp_path: Path):
    run = run_comfy_cli("node", "validate", home=tmp_path, folder=ROOT)
    assert run.exit_code == 0 and "passed" in run.output, run.output
    assert "Warning" not in run.output, run.output


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Callable[[str], Any]]:
    """Imports a module of ``nodes`` as ComfyUI does, with as much of ComfyUI as it needs."""
    with stand_in.comfyui(tmp_path) as importing:
        yield importing


@pytest.fixture
def convert(load: Callable[[str], Any]) -> Any:
    return load("convert")


def test_image_comes_back_with_its_transparency(convert):
    image = torch.rand(2, 5, 7, 4)
    pixels, alpha = convert.to_core(image)
    assert pixels.shape == (2, 3, 5, 7) and alpha.shape == (2, 1, 5, 7)
    assert torch.equal(convert.to_comfy(pixels, alpha), image)


def test_half_precision_becomes_single(convert):
    pixels, alpha = convert.to_core(torch.rand(1, 4, 4, 3).half())
    assert pixels.dtype == torch.float32 and alpha is None


@pytest.mark.parametrize("shape", [(4, 4, 3), (1, 4, 4, 1), (1, 3, 4, 4, 3)])
def test_what_is_no_image_is_refused(convert, shape):
    with pytest.raises(Exception, match=r"crops must be a batch of RGB.*×"):
        convert.to_core(torch.rand(shape), "crops")


def test_empty_batch_keeps_its_size(convert):
    pixels, _ = convert.to_core(torch.rand(0, 64, 32, 3))
    assert convert.to_comfy(pixels).shape == (0, 64, 32, 3)


def test_masks(convert):
    assert convert.mask_to_core(torch.rand(6, 7)).shape == (1, 1, 6, 7)
    mask = torch.rand(2, 6, 7)
    assert torch.equal(convert.mask_to_comfy(convert.mask_to_core(mask)), mask)


def mediapipe(points: int = 478, **changes) -> dict:
    mesh = torch.arange(points, dtype=torch.float32)[:, None].expand(-1, 2).clone()
    face = {"landmarks_xy": mesh.numpy(), "bbox_xyxy": [1.0, 2.0, 30.0, 40.0], "score": 0.75}
    return {"frames": [[face], []], "image_size": (50, 60), **changes}


def test_mediapipe_mesh_becomes_five_points(convert):
    faces = convert.to_face_set(mediapipe())
    assert faces.image_size == (50, 60) and [len(found) for found in faces.faces] == [1, 0]
    face = faces.faces[0][0]
    assert face.box == (1.0, 2.0, 30.0, 40.0) and face.score == 0.75
    # Each point's coordinates are its number in the mesh, so means of numbers come out.
    eyes = (sum((33, 133, 159, 145)) / 4, sum((263, 362, 386, 374)) / 4)
    assert face.landmarks == tuple((value, value) for value in (*eyes, 1.0, 61.0, 291.0))


@pytest.mark.parametrize("wrong", [{}, {"frames": []}, [1, 2], mediapipe(points=68)])
def test_what_holds_no_faces_is_refused(convert, wrong):
    with pytest.raises(Exception, match="FACE_LANDMARKS"):
        convert.to_face_set(wrong)


def test_bounding_boxes_are_the_cores(convert):
    landmarks = ((1.0, 1.0),) * 5
    faces = FaceSet(((Face((1.0, 2.0, 11.0, 22.0), 0.5, landmarks),), ()), (50, 60))
    box = {"x": 1.0, "y": 2.0, "width": 10.0, "height": 20.0, "label": "face", "score": 0.5}
    assert convert.to_bounding_boxes(faces) == [[box], []]


def test_every_swept_parameter_is_an_input_under_its_name():
    shown = {id: options["display_name"] for id, (_, options) in inputs_of(SWEEP).items()}
    options = SWEEP["input"]["required"]["across"][1]["options"]
    assert options and set(options) <= set(shown.values())


@pytest.fixture
def tuning(load: Callable[[str], Any]) -> Any:
    return load("finetune")


@pytest.fixture
def recipe(load: Callable[[str], Any]) -> Any:
    return load("recipe")


AS_THE_PRESET = {
    "preset": "auto",
    "steps": 0,
    "seed": 0,
    "learning_rate": 0.0,
    "batch": 0,
    "micro_batch": 0,
    "patch": 0,
    "distance": "auto",
    "pixel": -1.0,
    "perceptual": -1.0,
    "adversarial": -1.0,
    "identity": -1.0,
    "ema": -1.0,
    "precision": "auto",
    "checkpointing": False,
    "held_back": 0.1,
}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, PRESETS["quick"]),
        ({"preset": "SwinIR (paper)"}, PRESETS["SwinIR (paper)"]),
        ({"steps": 40}, adjusted(PRESETS["quick"], steps=40)),
        ({"precision": "float32"}, replace(PRESETS["quick"], precision="float32")),
        ({"batch": 6}, replace(PRESETS["quick"], batch=6, micro_batch=2)),
        ({"patch": 96, "adversarial": 0}, replace(PRESETS["quick"], patch=96, adversarial=0)),
        ({"learning_rate": 2e-4}, replace(PRESETS["quick"], lr=2e-4, lr_end=2e-4 * 3e-5 / 3e-4)),
    ],
)
def test_what_is_not_set_is_the_presets(recipe, changes: dict, expected: FinetuneSettings):
    restorer = described(architecture="NAFNet")
    settings = recipe.make_settings(restorer, **{**AS_THE_PRESET, **changes})
    assert settings.as_dict() == expected.as_dict()


def test_auto_goes_by_the_architecture(recipe):
    settings = recipe.make_settings(described(architecture="CodeFormer"), **AS_THE_PRESET)
    assert settings.as_dict() == PRESETS["CodeFormer (paper)"].as_dict()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preset": "slow"}, "preset .*'slow'"),
        ({"batch": 6, "micro_batch": 4}, "4 for 6"),
        ({"distance": "none"}, "distance .*'none'"),
        ({"pixel": 0, "perceptual": 0, "adversarial": 0}, "pixel, perceptual and adversarial"),
    ],
)
def test_settings_that_cannot_be_are_refused(recipe, changes: dict, message: str):
    with pytest.raises(Exception, match=message):
        recipe.make_settings(described(architecture="NAFNet"), **{**AS_THE_PRESET, **changes})


@pytest.fixture
def saving(load):
    return load("save")


def tuned_file(path: Path, run: str, base: str = "0", sha256: str = "1") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {"base_sha256": base, "sha256": sha256, "run": run}
    write_state_dict(path, {"a": torch.zeros(1)}, about)


def test_a_result_takes_no_place_but_that_of_its_own_run(saving, tmp_path: Path):
    folder = tmp_path / "models" / "upscale_models"
    assert saving.result_file("mine", False, {}) == folder / "mine.safetensors"
    for name in ("mine", "mine_2"):
        tuned_file(folder / f"{name}.safetensors", run=name)
    assert saving.result_file("mine.safetensors", False, {}) == folder / "mine_3.safetensors"
    for name in ("mine", "mine_2"):
        assert saving.result_file("mine", False, {"run": name}) == folder / f"{name}.safetensors"
    assert saving.result_file("tuned/mine", False, {}) == folder / "tuned" / "mine.safetensors"


def test_only_restorers_tuned_from_the_same_one_are_overwritten(saving, tmp_path: Path):
    folder = tmp_path / "models" / "upscale_models"
    tuned_file(folder / "mine.safetensors", run="other")
    for base in ("0", "1"):  # tuned from the same restorer; and from this file, in a second round
        about = {"run": "x", "base_sha256": base}
        assert saving.result_file("mine", True, about) == folder / "mine.safetensors"
    (folder / "bought.safetensors").write_bytes(b"precious")
    for name, about in (("base", {"sha256": "0"}), ("old", {"base_sha256": "2"})):
        write_state_dict(folder / f"{name}.safetensors", {"a": torch.zeros(1)}, about)
    tuned_file(folder / "another's.safetensors", run="other", base="2", sha256="3")
    for name in ("bought", "base", "old", "another's"):
        with pytest.raises(Exception, match=rf"{name}\.safetensors"):
            saving.result_file(name, True, {"run": "x", "base_sha256": "0"})
    for name in ("mine", "old"):
        with pytest.raises(Exception, match=rf"{name}\.safetensors"):
            saving.result_file(name, True, {})


@pytest.fixture
def folders(load: Callable[[str], Any]) -> Any:
    return load("folders")


def test_workflows_look_into_comfyuis_folders_alone(
    folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert folders.user_folder("  ") is None
    assert folders.user_folder('"albums/1950s"') == tmp_path / "input" / "albums" / "1950s"
    for inside in ("input/x", "output/x", "models/datasets/x"):
        assert folders.user_folder(str(tmp_path / inside)) == tmp_path / inside
    elsewhere = tmp_path / "elsewhere"
    refused = ["..", "../elsewhere", "x/../../elsewhere", "/", "/etc", str(elsewhere)]
    refused += ["a\0b", "a" * 300, str(tmp_path / "input" / ".." / "elsewhere")]
    for text in refused:
        with pytest.raises(Exception, match="folder"):
            folders.user_folder(text)
    monkeypatch.setenv("BFR_FOLDERS", str(elsewhere))
    assert folders.user_folder(str(elsewhere)) == elsewhere
    assert folders.user_folder(str(elsewhere / "x")) == elsewhere / "x"


def test_sets_behind_links_are_found_and_loops_end(load, tmp_path: Path):
    sets, datasets = load("sets"), tmp_path / "models" / "datasets"
    datasets.mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "manifest.jsonl").touch()
    (datasets / "linked").symlink_to(tmp_path / "elsewhere")
    for name in ("loop", "another"):
        (datasets / name).symlink_to(datasets)
    assert sets.list_sets() == ["linked"]
    assert sets.set_folder("linked") == datasets / "linked"
    for name in ("", "..", "../x", "/x", "a/../..", "a\0b", "a" * 300):
        with pytest.raises(Exception, match="name"):
            sets.set_folder(name)


def test_results_stay_below_the_output_folder(load, tmp_path: Path):
    restore_folder = load("restore_folder")
    assert restore_folder.result_folder("albums/1950s").name == "1950s"
    for name in ("", ".", "..", "../x", "/x", "a/../..", "a\0b", "a" * 300):
        with pytest.raises(Exception, match=r"name|Name"):
            restore_folder.result_folder(name)


def test_what_may_not_be_looked_at_does_not_stop_a_workflow(folders, tmp_path: Path):
    (tmp_path / "a.png").touch()
    (tmp_path / "loop").symlink_to(tmp_path)
    first = folders.stamp(tmp_path)
    (tmp_path / "lost").symlink_to(tmp_path / "nowhere")
    assert folders.stamp(tmp_path) == first != folders.stamp(tmp_path / "gone")


@pytest.mark.parametrize("name", ["", "..", "../mine", "/mine", "more/", "CON", "a:b", "a\\b"])
def test_names_that_lead_elsewhere_or_that_windows_cannot_hold_are_refused(
    saving, tuning, name: str
):
    with pytest.raises(Exception, match="Names must be"):
        saving.result_file(name, False, {})
    with pytest.raises(Exception, match="Names must be"):
        tuning.run_folder(name)


def test_a_network_that_comfyui_leaves_behind_is_moved_all_the_same(load, monkeypatch):
    """`load_models_gpu` may leave a network without ComfyUI's own operators where it was."""
    memory, asked = load("memory"), []
    monkeypatch.setattr(
        memory.model_management,
        "load_models_gpu",
        lambda patchers, **options: asked.extend(patchers),
        raising=False,
    )
    network = torch.nn.Linear(2, 2)
    patcher = SimpleNamespace(model=network, load_device=torch.device("meta"))
    memory.load(memory.ManagedDetector(network, patcher=patcher), None)
    assert asked == [patcher]
    assert network.weight.device.type == "meta"


def test_a_restorer_of_the_core_is_taken_with_its_own_patcher(load):
    memory, network = load("memory"), NAFNet(width=4, enc_blk_nums=[1], dec_blk_nums=[1])
    stock = ModelLoader().load_from_state_dict(network.state_dict())
    assert isinstance(stock, ImageModelDescriptor)
    vars(stock)["patcher"] = patcher = object()
    restorer = memory.manage_restorer(stock)
    assert restorer.patcher is patcher and restorer.network is stock.model
    assert (restorer.architecture, restorer.size, restorer.scale) == ("NAFNet", 256, 1)
    assert memory.manage_restorer(restorer) is restorer
    assert not hasattr(memory.unmanaged(restorer), "patcher")
    face = torch.rand(1, 3, 64, 64)
    assert restorer(face).shape == face.shape, "the core's upscale node calls it"
