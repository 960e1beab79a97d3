"""What tests in a browser do with a page."""

from repository import ROOT

SCREENSHOTS = ROOT / ".browser" / "screenshots"


def show(browser, width, height, scheme):
    """Give the page this room, in `light` or `dark`."""
    sizes = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", sizes)
    scheme = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", scheme)


def save_screenshot(browser, name):
    """For people to look at."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    browser.save_screenshot(str(SCREENSHOTS / f"{name}.png"))
