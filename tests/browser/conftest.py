"""A real Chromium without a screen; `make test-browser` installs what it needs."""

import shutil

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """A browser that saves to `browser.downloads`."""
    downloads = tmp_path_factory.mktemp("downloads")
    options = Options()
    options.binary_location = shutil.which("chromium")
    # Root has no sandbox, and containers have little shared memory.
    for word in ("--headless", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(word)
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    driver.downloads = downloads
    yield driver
    driver.quit()


@pytest.fixture
def quiet(browser):
    """Fails if anything stands in the console at the end of the test."""
    browser.get_log("browser")
    yield
    assert browser.get_log("browser") == []
