"""What the API says of its models is their own: sizes, defaults, and why one cannot be asked for."""

from __future__ import annotations

import json
from pathlib import Path

import httpx

from testkit.http import assert_problem, jobs_made
from testkit.processes import free_port
from testkit.quirky import build, scheduler, unet
from testkit.workerless import running_workerless_api


def test_a_model_that_cannot_be_painted_says_why_and_the_others_go_on(tmp_path: Path) -> None:
    folders = {
        "good": build(tmp_path / "good"),
        "paints": build(tmp_path / "inpainting", unet(in_channels=9)),
        "lost": tmp_path / "nowhere",
    }
    entries = {name: {"source": str(folder)} for name, folder in folders.items() if name != "lost"}
    (tmp_path / "nowhere").mkdir()
    entries["lost"] = {"source": str(tmp_path / "nowhere")}
    with running_workerless_api(tmp_path / "api", PANORAMAS_MODELS=json.dumps(entries)) as api:
        models = {model["name"]: model for model in api.http.get("/models").json()["items"]}
        assert models["good"]["unavailable"] is None
        assert "inpainting" in models["paints"]["unavailable"]
        assert "model_index.json" in models["lost"]["unavailable"]
        ready = api.http.get("/readyz").json()
        assert set(ready["unavailable_models"]) == {"paints", "lost"}
        problem = assert_problem(api.http.post("/panoramas", json={"prompt": "a", "model": "paints"}), 422)
        assert problem["errors"][0]["pointer"] == "#/model"
        assert "in_channels is 9" in problem["errors"][0]["detail"]
        assert "in_channels is 9" in api.stack.log(), "operators are told once, when the server starts"
        assert api.http.post("/panoramas", json={"prompt": "a"}).status_code == 202


def test_a_model_that_is_not_known_yet_is_no_fault_of_the_request(tmp_path: Path) -> None:
    """The hub cannot be reached: what may be right is not refused for good, nor half of a batch accepted."""
    entries = {"good": {"source": str(build(tmp_path / "good"))}, "far": {"source": "some/model"}}
    nowhere = {"HF_ENDPOINT": f"http://127.0.0.1:{free_port()}", "HF_HOME": str(tmp_path / "hub")}
    with running_workerless_api(tmp_path / "api", PANORAMAS_MODELS=json.dumps(entries), **nowhere) as api:
        asked = {"prompt": "a", "model": "far"}
        refused = api.http.post("/panoramas", json=asked)
        assert assert_problem(refused, 503)["type"].endswith(":model-pending")
        assert refused.headers["retry-after"]
        items = {"items": [{"prompt": "a"}, asked]}
        for prefer in ("handling=strict", "handling=lenient"):
            assert_problem(api.http.post("/batches", json=items, headers={"prefer": prefer}), 503)
        assert jobs_made(api.stack) == 0
        assert api.http.post("/panoramas", json={"prompt": "a"}).status_code == 202


def test_sizes_and_defaults_are_the_models_own(tmp_path: Path) -> None:
    entries = {
        "xl": {"source": str(build(tmp_path / "xl", xl=True))},
        "turbo": {"source": str(build(tmp_path / "sd-turbo", scheduler("EulerAncestralDiscreteScheduler")))},
        "mine": {"source": str(build(tmp_path / "mine")), "num_inference_steps": 12, "prediction_type": "v_prediction"},
    }
    with running_workerless_api(tmp_path / "api", PANORAMAS_MODELS=json.dumps(entries)) as api:
        models = {model["name"]: model for model in api.http.get("/models").json()["items"]}
        assert models["xl"]["family"] == "sdxl"
        assert (models["xl"]["defaults"]["width"], models["xl"]["defaults"]["height"]) == (512, 128)
        assert models["turbo"]["defaults"]["num_inference_steps"] == 4
        assert models["turbo"]["presets"]["fast"]["scheduler"] == "euler_a"
        job = submitted(api.http, model="xl")
        assert (job["width"], job["height"], job["scheduler"]) == (512, 128, "euler")
        assert submitted(api.http, model="mine")["num_inference_steps"] == 12
        assert submitted(api.http, model="turbo")["guidance_scale"] == 1.0
        assert submitted(api.http, model="mine", seed=-1)["seed"] >= 0


def submitted(http: httpx.Client, **fields: object) -> dict[str, object]:
    response = http.post("/panoramas", json={"prompt": "hills", **fields})
    assert response.status_code == 202, response.text
    return response.json()["input"]
