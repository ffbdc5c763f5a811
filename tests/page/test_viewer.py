"""The viewer: mouse, wheel, touch, keys, and circular panoramas."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from testkit.processes import Stack
from tests.page.visitor import Visitor

WIDTH = 1024


@pytest.fixture(scope="module")
def jobs(studio: Stack) -> dict[bool, str]:
    """Ids of two panoramas: a circular one and one with edges."""
    import httpx

    ids = {}
    with httpx.Client(base_url=studio.url, timeout=70) as http:
        for circular in (True, False):
            body = {"prompt": "hills at noon", "width": WIDTH, "height": 512, "num_inference_steps": 2, "seed": 1}
            answer = http.post("/panoramas", json={**body, "circular": circular}, headers={"prefer": "wait=60"})
            ids[circular] = answer.json()["id"]
    return ids


@pytest.fixture
def look(page: Page, studio: Stack, jobs: dict[bool, str], request: pytest.FixtureRequest) -> Visitor:
    """A visitor who looks at a panorama, circular unless the test asks for the other one."""
    visitor = Visitor(page, studio.url)
    visitor.open(f"/#/jobs/{jobs[getattr(request, 'param', True)]}")
    expect(visitor.viewer).to_be_visible()
    # Zoom in, so that the picture can be moved.
    page.get_by_role("button", name="Zoom in").click()
    page.get_by_role("button", name="Zoom in").click()
    return visitor


def drag(look: Visitor, x: float) -> None:
    box = look.viewer.bounding_box()
    assert box
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    mouse = look.page.mouse
    mouse.move(*middle)
    mouse.down()
    mouse.move(middle[0] + x / 2, middle[1], steps=3)
    mouse.move(middle[0] + x, middle[1], steps=3)
    look.page.wait_for_timeout(120)  # a pause before the release, so that the picture does not keep moving
    mouse.up()


def test_a_circular_panorama_repeats_without_end(look: Visitor) -> None:
    _, _, scale = look.position()
    start = look.position()[0]
    positions = []
    while len(positions) < 12:
        drag(look, -300)
        positions.append(look.position()[0])
    travelled = 12 * 300 / scale
    assert travelled > WIDTH, "more than one full turn"
    assert all(0 <= x < WIDTH for x in positions)
    assert positions[-1] == pytest.approx((start + travelled) % WIDTH, abs=2)


@pytest.mark.parametrize("look", [True], indirect=True)
def test_there_is_no_gap_where_the_ends_meet(look: Visitor) -> None:
    look.viewer.focus()
    look.page.keyboard.press("Home")
    assert look.position()[0] == pytest.approx(0, abs=1)
    look.page.wait_for_timeout(100)
    # The canvas's background is darker than any picture of noon.
    dark = look.page.evaluate(
        "() => { const canvas = document.getElementById('canvas'); const {width, height} = canvas;"
        "const row = canvas.getContext('2d').getImageData(0, Math.round(height / 3), width, 1).data;"
        "let count = 0; for (let i = 0; i < row.length; i += 4) count += row[i] + row[i + 1] + row[i + 2] < 60;"
        "return count; }"
    )
    assert dark == 0


@pytest.mark.parametrize("look", [False], indirect=True)
def test_a_panorama_with_edges_stops_at_them(look: Visitor) -> None:
    for _ in range(8):
        drag(look, -400)
    right = look.position()[0]
    drag(look, -400)
    assert look.position()[0] == right < WIDTH
    for _ in range(12):
        drag(look, 400)
    assert 0 < look.position()[0] < WIDTH / 2


def test_the_wheel_zooms_about_the_pointer(look: Visitor) -> None:
    box = look.viewer.bounding_box()
    assert box
    look.page.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] / 2)
    x, _, scale = look.position()
    under = x - box["width"] / 4 / scale
    look.page.mouse.wheel(0, -300)
    expect(look.viewer).not_to_have_attribute("data-scale", f"{scale:.4f}")
    x, _, nearer = look.position()
    assert nearer > scale
    assert (x - box["width"] / 4 / nearer) % WIDTH == pytest.approx(under % WIDTH, abs=1)


def test_keys_pan_and_zoom(look: Visitor) -> None:
    look.viewer.focus()
    x, _, scale = look.position()
    look.page.keyboard.press("ArrowRight")
    assert (look.position()[0] - x) % WIDTH > 0
    look.page.keyboard.press("ArrowLeft")
    assert look.position()[0] == pytest.approx(x, abs=0.1)
    look.page.keyboard.press("+")
    assert look.position()[2] > scale
    look.page.keyboard.press("0")
    assert look.position()[2] < scale


def test_the_viewer_fills_the_screen(look: Visitor) -> None:
    look.page.get_by_role("button", name="Full screen").click()
    look.page.wait_for_function("() => document.fullscreenElement !== null")
    look.page.keyboard.press("f")
    look.page.wait_for_function("() => document.fullscreenElement === null")


class TestTouch:
    @pytest.fixture
    def context_options(self) -> dict[str, Any]:
        return {
            "viewport": {"width": 390, "height": 844},
            "has_touch": True,
            "is_mobile": True,
            "device_scale_factor": 2,
        }

    def test_two_fingers_zoom(self, look: Visitor) -> None:
        box = look.viewer.bounding_box()
        assert box
        scale = look.position()[2]
        middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        session = look.page.context.new_cdp_session(look.page)

        def touch(kind: str, apart: float) -> None:
            points = [{"x": middle[0] - apart, "y": middle[1]}, {"x": middle[0] + apart, "y": middle[1]}]
            session.send(
                "Input.dispatchTouchEvent", {"type": kind, "touchPoints": [] if kind == "touchEnd" else points}
            )

        touch("touchStart", 20)
        for apart in (25, 30, 35, 40):
            touch("touchMove", apart)
        touch("touchEnd", 0)
        look.page.wait_for_timeout(100)
        assert look.position()[2] == pytest.approx(2 * scale, rel=0.2)
