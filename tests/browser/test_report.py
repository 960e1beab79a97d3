"""Snakemake's report of a real run: its pages by clicks, at two widths, light and dark."""

import csv

import pytest
from browser_pages import save_screenshot, show
from expected_jobs import DEMO, RUN
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

pytestmark = pytest.mark.run


@pytest.fixture(scope="module")
def report(finished_workspace, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    words = ["--report", str(path), "--report-stylesheet", "rules/report/report.css"]
    status, said = finished_workspace.snakemake("all", "tables", "figures", *words)
    assert status == 0, said[-3000:]
    return path


@pytest.fixture
def opened(browser, report):
    """The first page, as soon as it is there."""
    show(browser, 1280, 800, "light")
    browser.get_log("browser")
    browser.get(report.as_uri())
    wait_for(browser, "AuxSegNet on demo")
    return browser


def wait_for(browser, words):
    WebDriverWait(browser, 20).until(lambda _: words in shown(browser))


def shown(browser):
    return browser.find_element(By.TAG_NAME, "body").text


def click(browser, entry):
    """An entry of the menu, by its text."""
    (link,) = [a for a in browser.find_elements(By.TAG_NAME, "a") if a.text == entry]
    link.click()


def click_row(browser, text):
    """The last sign of a row of results: it shows the result."""
    (row,) = [row for row in browser.find_elements(By.TAG_NAME, "tr") if row.text == text]
    row.find_elements(By.TAG_NAME, "a")[-1].click()


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.reader(file))


def rows_shown(browser):
    """The cells of all rows of all tables that the page has."""
    return browser.execute_script(
        "return [...document.querySelectorAll('tr')].map("
        "row => [...row.querySelectorAll('th, td')].map(cell => cell.innerText.trim()))"
    )


def test_from_the_scores_to_one_table(opened, finished_workspace):
    click(opened, "Scores")
    wait_for(opened, "pseudo labels auxsegnet 0 1")
    click_row(opened, "predictions auxsegnet 0 1")
    wait_for(opened, "Predictions of stage 1 on the validation images")
    save_screenshot(opened, "report_scores")
    table = finished_workspace.folder / RUN / "stage1/evaluation/segmentation.csv"
    rows = rows_shown(opened)
    assert [row for row in rows_of(table) if row not in rows] == []


@pytest.mark.parametrize("table", ["footprint", "final"])
def test_tables_of_the_paper_are_there(opened, finished_workspace, table):
    click(opened, "Tables")
    wait_for(opened, table)
    click_row(opened, table)
    wait_for(opened, "How to read it says docs/experiments.md")
    path, rows = finished_workspace.folder / DEMO / f"tables/{table}.csv", rows_shown(opened)
    assert [row for row in rows_of(path) if row not in rows] == []


def test_a_picture_is_shown(opened):
    click(opened, "Pictures")
    wait_for(opened, "stages")
    pictures = opened.find_elements(By.TAG_NAME, "tr")
    assert len(pictures) > 10  # one figure a row, below the names of the columns


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 420])
def test_the_first_page_at_two_widths_and_in_both_schemes(opened, width, scheme):
    show(opened, width, 800, scheme)
    wait_for(opened, "AuxSegNet on demo")
    save_screenshot(opened, f"report_{width}_{scheme}")
    # Snakemake's own page tells that it brings Tailwind along.
    said = [line["message"] for line in opened.get_log("browser")]
    assert [line for line in said if "tailwindcss" not in line] == []
