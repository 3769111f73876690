"""Headless Chromium, and checks of every page in it: readable in both modes and widths, no console messages."""

import contextlib
import json
import shutil

import pytest

WIDTHS = {390: "a phone", 1280: "a desktop"}

# For each text of the page: its contrast with the ground, by WCAG 2.2. Photos' own captions on dark glass are left out.
_CONTRASTS = """
const channels = (colour) => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  canvas.fillStyle = colour;
  canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data];
};
const luminance = ([r, g, b]) => {
  const [x, y, z] = [r, g, b].map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
  return 0.2126 * x + 0.7152 * y + 0.0722 * z;
};
const ground = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const colour = channels(getComputedStyle(at).backgroundColor);
    if (colour[3] === 255) return colour;
  }
  return [255, 255, 255];
};
const found = [];
for (const element of document.querySelectorAll("body *")) {
  const text = [...element.childNodes].filter((node) => node.nodeType === 3).map((node) => node.data.trim()).join("");
  if (!text || !element.checkVisibility()) continue;
  if (element.closest("script, style, #veil, template, .tile > [data-act]")) continue;
  const style = getComputedStyle(element);
  const [one, other] = [channels(element.closest("svg") ? style.fill : style.color), ground(element)].map(luminance);
  const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
  if (contrast < 4.5) found.push(`${text}: ${contrast.toFixed(2)}`);
}
return found;
"""


@contextlib.contextmanager
def chromium():
    """A driver; skips the test where there is no Chromium. WebGL runs on the CPU."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    places = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    if None in places.values():
        pytest.skip("no chromium with its chromedriver: apt install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = places["chromium"]
    for argument in (
        "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,900", "--use-gl=angle",
        "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
    ):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(places["chromedriver"]))
    try:
        yield driver
    finally:
        driver.quit()


def requests(browser):
    """The addresses that were asked for since the last call, without those of data inside the page."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    return [address for address in sent if not address.startswith(("data:", "blob:"))]


def show(browser, width, mode):
    """Sets the window's width in CSS pixels, and light or dark mode."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": mode}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def assert_readable(browser):
    """The open page does not scroll sideways on a phone or a desktop, and its text has WCAG AA's contrast."""
    grounds = set()
    try:
        for mode in ("light", "dark"):
            for width in WIDTHS:
                show(browser, width, mode)
                inside = browser.execute_script("return document.documentElement.scrollWidth")
                assert inside <= width, f"{inside} px wide on {WIDTHS[width]} of {width} px"
            assert browser.execute_script(_CONTRASTS) == [], f"too little contrast in {mode} mode"
            grounds.add(browser.execute_script("return getComputedStyle(document.body).backgroundColor"))
        assert len(grounds) == 2, "dark mode is another ground"
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def assert_accessible(browser):
    """Pictures have texts, ids are unique, and everything that acts can be reached by the keyboard."""
    problems = browser.execute_script("""
      const ids = [...document.querySelectorAll("[id]")].map(({ id }) => id);
      const acting = "a[href], button, summary, [role=button], [role=application], .scroll";
      return [
        ...[...document.images].filter((image) => !image.hasAttribute("alt")).map(() => "a picture without a text"),
        ...[...document.querySelectorAll("[role=img]")].filter((one) => !one.ariaLabel).map(() => "no label"),
        ...ids.filter((id, place) => ids.indexOf(id) !== place),
        ...[...document.querySelectorAll(acting)].filter((one) => one.tabIndex !== 0).map((one) => one.outerHTML),
        ...[document.documentElement.lang === "en" ? [] : "no language"].flat(),
        ...[document.querySelectorAll("h1").length === 1 ? [] : "not one h1"].flat(),
      ];""")
    assert problems == []
