"""The page of a check, in a real browser where there is one."""

import html
import json
import os
import re
import shutil
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import pytest
import torch
from torch import nn

from polyphase.cli import main
from polyphase.models.unet import UNet
from polyphase.tools.check import drawings, loading
from polyphase.tools.check.checking import check
from polyphase.tools.check.page import command, page, place
from polyphase.tools.check.screen import speed

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
QUIET = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --hide-scrollbars "
    "--disable-background-networking --disable-component-update --disable-sync"
).split()
# what the browser made of the page, after layout
LOOK = """<script>
const cells = [...document.querySelectorAll('#layers td')].map(cell => cell.innerText);
const seen = {
  cells, summary: document.getElementById('summary').innerText,
  page: document.documentElement.scrollWidth, window: innerWidth,
  background: getComputedStyle(document.body).backgroundColor,
  wrong: document.querySelectorAll('svg .bar.wrong').length,
  map: [...document.querySelectorAll('svg.map rect')].map(r => r.getBoundingClientRect().width),
  diagram: document.getElementById('sizes')?.getBoundingClientRect().height ?? 0,
};
document.body.innerHTML = '<pre id=seen></pre>';
document.getElementById('seen').textContent = JSON.stringify(seen);
</script>"""


def report_of(model, *shape):
    return check(loading.Subject("<net>", "<net> & more", model, ((shape, "float32"),)))


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    return report_of(UNet(width=2), 1, 1, 300, 451)


def rendered(text, folder, width, dark=False):
    path = folder / "page.html"
    path.write_text(text.replace("</body>", LOOK + "</body>"), encoding="utf-8")
    flags = [f"--user-data-dir={folder / 'profile'}", f"--window-size={width},900", "--dump-dom"]
    flags += ["--force-dark-mode", "--blink-settings=preferredColorScheme=0"] if dark else []
    done = subprocess.run(
        [BROWSER, *QUIET, *flags, path.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    found = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.DOTALL)
    return json.loads(html.unescape(found[1]))


@pytest.mark.slow
@pytest.mark.skipif(not BROWSER, reason="there is no Chromium on this machine")
@pytest.mark.parametrize(("width", "dark"), [(1200, False), (500, True)])
def test_the_browser_shows_the_figures(unet, tmp_path, width, dark):
    seen = rendered(page(unet), tmp_path, width, dark)
    assert seen["cells"][:4] == ["up.0", "32:16", "18x28", "36x56"]
    assert seen["cells"][4] == "36-37, 56-57"
    assert "4 errors" in seen["summary"]
    assert seen["wrong"] == 4
    assert seen["diagram"] > 200
    # wide parts scroll by themselves
    assert seen["page"] <= seen["window"]
    light = sum(map(int, re.findall(r"\d+", seen["background"])[:3])) > 380
    assert light is not dark


@pytest.mark.slow
@pytest.mark.skipif(not BROWSER, reason="there is no Chromium on this machine")
def test_the_browser_shows_a_checkerboard(tmp_path):
    report = report_of(nn.Sequential(nn.ConvTranspose2d(2, 2, 3, 2)), 1, 2, 6, 6)
    seen = rendered(page(report), tmp_path, 1000)
    assert len(seen["map"]) == 64
    assert min(seen["map"]) > 5
    assert seen["cells"][-1].startswith("uneven")


def test_the_page_needs_nothing_else(unet):
    text = page(unet)
    assert not re.search(r"https?://|src=|@import|url\(", text)
    assert text.count("<script") == 1
    data = json.loads(re.search(r'id="report">(.*?)</script>', text)[1])
    assert data == json.loads(json.dumps(unet.as_data()))


def test_names_are_text_and_no_tags(unet):
    text = page(unet)
    assert "&lt;net&gt; &amp; more" in text
    assert "<net>" not in text


def test_a_partial_report_says_so():
    class Stops(nn.Module):
        def __init__(self):
            super().__init__()
            self.up = nn.ConvTranspose1d(1, 1, 2, 2)

        def forward(self, x):
            return self.up(x).reshape(5, 5)

    assert "Partial: the model stopped" in page(report_of(Stops(), 1, 1, 4))


def test_speeds_are_drawn_under_a_roof(unet):
    from dataclasses import replace

    layers = tuple(replace(layer, seconds=(0.02, 0.01), difference=1e-7) for layer in unet.layers)
    measured = {"threads": 2, "roof": {"gflops": 100.0, "gbytes": 10.0}}
    text = page(replace(unet, layers=layers, measured=measured))
    assert text.count('class="ours"') == text.count('class="theirs"') == 4
    assert "20.00</td><td>10.00</td><td>2.00x" in text
    assert "100 GFLOP/s in registers, 10.0 GB/s in memory" in text
    assert text.count('class="key ring"') == text.count('class="key dot"') == 1
    assert 'class="key ring"></span>PyTorch' in text


def test_names_beside_points_do_not_cover_each_other(unet):
    from dataclasses import replace

    times = [(0.02, 0.0100), (0.02, 0.0101), (0.02, 0.0102), (0.02, 0.0103)]
    layers = tuple(replace(unet.layers[0], seconds=one, difference=1e-7) for one in times)
    measured = {"threads": 2, "roof": {"gflops": 100.0, "gbytes": 10.0}}
    drawn = drawings.roofline(replace(unet, layers=layers, measured=measured))
    found = re.findall(r'<text class="small (start|end)" x="([\d.]+)" y="([\d.]+)">up.0', drawn)
    wide = 7 * len("up.0")
    shift = {"start": 0, "end": wide}
    boxes = [(float(x) - shift[anchor], float(y)) for anchor, x, y in found]
    assert len(boxes) == 4
    for (x, y), (u, v) in combinations(boxes, 2):
        assert abs(x - u) >= wide or abs(y - v) >= 11.9


NET = """
from torch import nn
def net():
    return nn.Sequential(nn.ConvTranspose1d(1, 2, 3, 2))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [["fsrcnn"], ["my nets/a b.py:net", "--input", "1,1,8", "--compute"]]
)
def test_the_command_under_the_page_makes_the_same_page(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my nets").mkdir()
    (tmp_path / "my nets/a b.py").write_text(NET)
    assert main(["check", *words, "--html", "first.html"]) == 0
    text = (tmp_path / "first.html").read_text()
    typed = html.unescape(re.search(r'<code id="command">(.*?)</code>', text)[1])
    assert f"type in the folder {tmp_path.name}" in text or "type in any folder" in text
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(
        f"{typed} --html second.html", shell=True, check=True, capture_output=True,
        env={**os.environ, "PATH": path},
    )  # fmt: skip
    assert (tmp_path / "second.html").read_text() == text


def test_an_environment_that_is_not_switched_on_is_named(unet, tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/polyphase").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin/python"))
    assert command(unet).startswith("bin/polyphase check ")
    assert place(unet) == f"type in the folder {tmp_path.name}"


def test_times_are_told_in_the_unit_that_suits_them(unet):
    from dataclasses import replace

    layers = tuple(replace(layer, seconds=(4e-5, 2e-6), difference=1e-7) for layer in unet.layers)
    whole = {"torch": 8e-4, "polyphase": 2e-4}
    measured = {"threads": 2, "whole": whole, "difference": 0.0, "largest": 1.0}
    told = speed(replace(unet, layers=layers, measured=measured))
    assert "160 us with PyTorch, 8 us with polyphase" in told
    assert "whole model 800 us and 200 us (4.00x)" in told
