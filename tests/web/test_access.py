"""The page serves small screens, the dark, the keyboard and screen readers."""

import re

import pytest

BOXES = """() => [...document.querySelectorAll("section, h2, canvas, fieldset, button, footer")]
    .filter((one) => one.getClientRects().length)
    .map((one) => one.getBoundingClientRect())
    .map((box) => [box.x, box.y + scrollY, box.width, box.height])"""
CONTRASTS = """() => {
    const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
    const luminance = (rgb) => rgb.slice(0, 3)
        .map((c) => c / 255)
        .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
        .reduce((sum, c, i) => sum + [0.2126, 0.7152, 0.0722][i] * c, 0);
    const behind = (one) => {
        for (; one; one = one.parentElement) {
            const rgb = parse(getComputedStyle(one).backgroundColor);
            if (rgb.length === 3 || rgb[3] === 1) return rgb;
        }
        return [255, 255, 255];
    };
    const kinds = "p, span, b, h1, h2, h3, label, legend, button, output";
    return [...document.querySelectorAll(kinds)]
        .filter((one) => one.textContent.trim() && one.offsetParent)
        .map((one) => {
            const [a, b] = [parse(getComputedStyle(one).color), behind(one)].map(luminance);
            return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), one.textContent.trim()];
        });
}"""
NAMELESS = """() => [...document.querySelectorAll("canvas, button, input, meter")]
    .filter((one) => !(one.getAttribute("aria-label") || one.labels?.length
        || one.textContent.trim() || one.closest("button")?.getAttribute("aria-label")))
    .map((one) => one.outerHTML)"""
SIZES = {"360": {"width": 360, "height": 740}, "1280": {"width": 1280, "height": 900}}


@pytest.mark.parametrize("width", SIZES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_fits_the_screen_and_is_readable(visit, either, width, scheme):
    opened = visit(either.page.url, viewport=SIZES[width], color_scheme=scheme).ready()
    assert opened.evaluate("document.documentElement.scrollWidth") <= int(width)
    wide = opened.evaluate(
        "[...document.querySelectorAll('main *')]"
        ".filter((one) => one.clientWidth && one.scrollWidth > one.clientWidth + 1)"
        ".map((one) => one.outerHTML)"
    )
    assert not wide
    low = [pair for pair in opened.evaluate(CONTRASTS) if pair[0] < 4.5]
    assert not low


def test_dark_and_light_differ_and_change_at_once(docs):
    background = "getComputedStyle(document.body).backgroundColor"
    light, pictures = docs.evaluate(background), docs.pictures()
    docs.page.emulate_media(color_scheme="dark")
    docs.settle()
    docs.settle()
    assert docs.evaluate(background) != light
    assert docs.pictures() != pictures


@pytest.mark.parametrize("width", SIZES)
def test_nothing_jumps(visit, either, width):
    opened = visit(either.page.url, viewport=SIZES[width]).ready()
    before = opened.evaluate(BOXES)
    rows, columns = opened.evaluate("[page.pad.rows, page.pad.columns]")
    for places in (((0.15, 0.15), (0.2, 0.7)), ((0.6, 0.6), (0.7, 0.65)), ((0.9, 0.1), (0.9, 0.9))):
        opened.stroke(*((int(rows * down), int(columns * along)) for down, along in places))
        assert opened.evaluate(BOXES) == before
    for action in ("#again", "#clear-evidence", "#clear", "#undo"):
        opened.page.click(action)
        opened.settle()
        assert opened.evaluate(BOXES) == before, action
    if opened.evaluate("page.recognition !== undefined"):
        opened.page.check("input[name=proposal][value=recognition]")
    for count in ("20", "500"):
        opened.page.fill("#count", count)
        opened.settle()
        assert opened.evaluate(BOXES) == before, count


@pytest.mark.parametrize("width", SIZES)
def test_nothing_jumps_while_the_page_loads(visit, docs, width):
    opened = visit(docs.page.url, viewport=SIZES[width]).ready()
    opened.settle()
    moved = opened.evaluate(
        """() => new Promise((done) => {
        const observer = new PerformanceObserver((list) =>
            done(list.getEntries().map((entry) => entry.value)));
        observer.observe({type: "layout-shift", buffered: true});
        setTimeout(() => done([]), 300);
    })"""
    )
    assert sum(moved) < 0.01


def test_everything_has_a_name(either):
    assert either.evaluate(NAMELESS) == []
    assert either.evaluate("document.documentElement.lang") == "en"
    labels = either.evaluate("page.canvases.map((canvas) => canvas.getAttribute('aria-label'))")
    assert all(re.fullmatch(r"Sample \d+, responsibility \d+\.\d %", label) for label in labels)


def test_a_screen_reader_is_told_once_the_pen_rests(docs):
    docs.stroke((16, 17), (18, 18), (20, 18))
    docs.until("document.getElementById('live').textContent.includes('evidence')")
    said = docs.page.inner_text("#live")
    assert re.match(r"Twenty completions redrawn\. Effective sample size [\d.]+ of 100, log-", said)
    assert docs.page.get_attribute("#live", "aria-live") == "polite"


def test_the_keyboard_reaches_every_control(either):
    wanted = either.evaluate(
        "[...document.querySelectorAll('#pad, button, input')]"
        ".filter((one) => one.offsetParent).map((one, n) => (one.dataset.n = n))"
    )
    reached = set()
    for _ in range(len(wanted) + 5):
        either.page.keyboard.press("Tab")
        reached.add(either.evaluate("document.activeElement.dataset.n"))
    radios = either.evaluate(
        "[...document.querySelectorAll('input[type=radio]:not(:checked)')]"
        ".map((one) => one.dataset.n)"
    )
    assert {str(n) for n in wanted} - set(radios) <= reached
