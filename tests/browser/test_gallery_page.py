"""The gallery from disk in a real browser: clicks and keys change what is shown."""

from urllib.parse import parse_qs, quote

import numpy as np
import pytest
from browser_pages import save_screenshot, show
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait
from small_gallery import (
    CLASSES,
    STRANGE,
    class_of,
    gallery_of,
    iou_of,
    shift_of,
    small_run,
    square,
)

from wsss.reports.drawing import class_palette

pytestmark = pytest.mark.usefixtures("quiet")
WAIT = 60  # seconds, for machines that do other work, too
LAYERS_OF_TRAIN = [
    "photograph",
    "CAM",
    "saliency",
    "refined saliency",
    "saliency label",
    "pseudo label",
    "ground truth",
]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Of a gallery whose folder has a blank in its name."""
    return gallery_of(small_run(tmp_path_factory.mktemp("a run"))).as_uri()


class Page:
    """What a person sees of the gallery, and does to it."""

    def __init__(self, browser, address, hash_=""):
        self.browser = browser
        show(browser, 1280, 800, "light")
        browser.get("about:blank")
        browser.get(address + hash_)
        self.wait()

    def wait(self):
        """Until the pictures of the image are there."""
        self.until(lambda: self.all("#panes canvas, #panes img"))
        ready = "return [...document.querySelectorAll('#panes img')].every(i => i.naturalWidth > 0)"
        self.until(lambda: self.browser.execute_script(ready))

    def until(self, condition):
        WebDriverWait(self.browser, WAIT, poll_frequency=0.05).until(lambda _: condition())

    def all(self, selector):
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector):
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def texts(self, selector):
        script = "return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)"
        return self.browser.execute_script(script, selector)

    def press(self, *keys):
        for key in keys:
            ActionChains(self.browser).send_keys(key).perform()

    def choose(self, id_, text):
        Select(self.one(f"#{id_}")).select_by_visible_text(text)
        self.press(Keys.ESCAPE)  # or the next keys would be its own

    @property
    def name(self):
        return self.one("#name").text

    @property
    def listed(self):
        return self.texts("#list .id")

    @property
    def caption(self):
        return self.one("#panes figcaption").text.replace("\n", " ")

    @property
    def address(self):
        return parse_qs(self.browser.execute_script("return location.hash.slice(1)"))

    def painted(self, number=0):
        """The pixels over the photograph, as RGBA (H, W, 4)."""
        script = """
            const canvas = document.querySelectorAll("#panes canvas")[arguments[0]];
            const {width, height} = canvas;
            const copy = new OffscreenCanvas(width, height);
            const context = copy.getContext("2d", {willReadFrequently: true});
            context.drawImage(canvas, 0, 0);
            return [height, width, Array.from(context.getImageData(0, 0, width, height).data)];
        """
        height, width, pixels = self.browser.execute_script(script, number)
        return np.array(pixels, np.uint8).reshape(height, width, 4)


def picture_of(labels):
    """RGBA of a label map as the page should paint it."""
    return np.dstack([class_palette()[labels] * (labels > 0)[..., None], 255 * (labels > 0)])


def test_it_opens_with_the_last_stage(browser, address):
    page = Page(browser, address)
    assert page.name == "train_0"
    assert browser.title == "small · gallery"
    assert len(page.listed) == 5 + 4 + 2 and page.one("#count").text == "11 images"
    assert page.texts("#layers .caption") == LAYERS_OF_TRAIN
    assert "pseudo label · auxsegnet · stage 1" in page.caption


def test_arrows_step_through_images_and_stages(browser, address):
    page = Page(browser, address, "#split=val")
    assert page.name == "val_0"
    page.press(Keys.ARROW_RIGHT)
    page.until(lambda: f"IoU {mean_iou('auxsegnet', 1, 1):.1f}" in page.caption)
    assert page.name == "val_1" and "CRF · auxsegnet · stage 1" in page.caption
    assert np.array_equal(page.painted(), picture_of(square(class_of(1), 6)))
    page.press(Keys.ARROW_DOWN)
    page.until(lambda: "stage 0" in page.caption)
    assert np.array_equal(page.painted(), picture_of(square(class_of(1), 10)))
    page.press(Keys.ARROW_DOWN, Keys.ARROW_LEFT, Keys.ARROW_LEFT)  # there is no more
    page.until(lambda: page.name == "val_0")
    assert "stage 0" in page.caption
    page.one("#next").click()
    page.until(lambda: page.name == "val_1")


def mean_iou(variant, stage, number):
    """IoU of an image: of its class, and of background, whose part is counted."""
    shift = shift_of(variant, stage, number)
    truth, labels = square(class_of(number)) == 0, square(class_of(number), shift) == 0
    background = 100 * (truth & labels).sum() / (truth | labels).sum()
    return (iou_of(shift) + background) / 2


def test_a_click_on_a_layer_paints_it(browser, address):
    page = Page(browser, address, "#image=val_2")
    page.one("#layers [data-layer=truth]").click()
    page.until(lambda: "ground truth" in page.caption)
    assert np.array_equal(page.painted(), picture_of(square(class_of(2))))
    page.press("2")
    page.until(lambda: page.caption.startswith("unrefined"))
    assert np.array_equal(page.painted(), picture_of(square(class_of(2), 12)))
    page.press("1")
    page.until(lambda: page.caption.startswith("photograph"))
    assert page.all("#panes canvas") == []


def test_what_nobody_knows_is_hatched(browser, address):
    page = Page(browser, address, "#image=train_0&layer=pseudo_label")
    open_ = page.painted()[:4].reshape(-1, 4)
    assert {tuple(colour) for colour in open_.tolist()} == {(*[238] * 3, 255), (*[176] * 3, 255)}
    assert "left open (255)" in page.texts("#legend td")


def test_differences_are_told_apart(browser, address):
    page = Page(browser, address, "#image=val_3&layer=crf")
    page.press("e")
    page.until(lambda: "missed" in page.texts("#legend td span"))
    truth, labels = (square(class_of(3), shift) > 0 for shift in (0, 10))
    painted = page.painted()
    assert np.array_equal(painted[..., 3] > 0, truth != labels)
    missed, invented = (np.unique(painted[w], axis=0) for w in (truth & ~labels, labels & ~truth))
    assert len(missed) == len(invented) == 1 and (missed != invented).any()
    shares = page.texts("#legend td.number")
    assert shares[0] == shares[1] == f"{100 * 10 * 40 / (72 * 96):.1f} %"
    assert page.address["errors"] == ["1"]


def test_cams_of_each_class(browser, address):
    page = Page(browser, address, "#image=train_1&layer=cam")
    assert page.texts("#cam-classes button") == ["all classes", "dog", "sheep"]
    everything = page.painted()
    page.press("c")
    page.until(lambda: page.address.get("cam") == ["2"])
    page.until(lambda: (page.painted() != everything).any())
    dog = page.painted()
    page.one("#cam-classes [data-cam='3']").click()
    page.until(lambda: (page.painted() != dog).any())
    box = page.one("#panes .picture")
    ActionChains(browser).move_to_element_with_offset(box, -box.size["width"] // 4, 0).perform()
    page.until(lambda: page.one("#pixel").text)
    assert page.one("#pixel").text.splitlines() == [
        "CAM: dog 0.75, sheep 0.00",
        f"ground truth: {CLASSES[class_of(1) - 1]}",
    ]


def test_orders_and_filters(browser, address):
    page = Page(browser, address)
    page.choose("split", "val")
    page.choose("sort", "worst first")
    page.until(lambda: page.listed == ["val_3", "val_2", "val_1", "val_0"])
    assert page.texts("#list .value")[0] == f"{mean_iou('auxsegnet', 1, 3):.1f}"
    page.choose("sort", "least certain first")
    page.until(lambda: page.texts("#list .value") == ["0.60", "0.70", "0.80", "0.90"])
    page.choose("sort", "by name")
    page.choose("class", "dog (5)")
    page.until(lambda: page.listed == ["val_1", "val_3"])
    assert page.texts("#list .value")[0] == f"{iou_of(shift_of('auxsegnet', 1, 1)):.1f}"
    page.choose("split", "all")
    page.choose("class", "sheep (1)")
    page.until(lambda: page.listed == ["train_1"])
    page.choose("class", "all")
    page.press("/")
    page.press("VAL")
    page.until(lambda: page.listed == [f"val_{n}" for n in range(4)])


def test_a_class_leads_to_its_worst_images(browser, address):
    page = Page(browser, address, "#image=val_0")
    page.one("#legend button").click()  # cat
    page.until(lambda: page.address["class"] == ["1"])
    assert page.address["sort"] == ["worst"]
    # Pseudo labels of stage 1 lie as far off as predictions: by number, of both splits.
    assert [n for n in page.listed if n.startswith("val")] == ["val_2", "val_0"]
    assert page.listed[0] == page.name == "train_4"


def test_two_runs_side_by_side(browser, address):
    page = Page(browser, address, "#split=val")
    assert page.all("#run-b:not([hidden])") == []
    page.press("b")
    page.until(lambda: len(page.all("#panes figure")) == 2)
    assert page.texts("#panes figcaption > span:first-child") == [
        "A · CRF · auxsegnet · stage 1",
        "B · CRF · auxsegnet · stage 0",
    ]
    Select(page.one("#run-b [data-part=variant]")).select_by_visible_text("baseline")
    page.until(lambda: "B · CRF · baseline · stage 0" in page.texts("#panes figcaption > span"))
    assert np.array_equal(page.painted(1), picture_of(square(class_of(0), 16)))
    page.choose("sort", "most lost in B")
    lost = [mean_iou("baseline", 0, n) - mean_iou("auxsegnet", 1, n) for n in range(4)]
    page.until(lambda: page.texts("#list .value") == [f"{d:.1f}" for d in sorted(lost)])
    page.choose("sort", "most gained in B")
    page.until(lambda: page.listed[0] == f"val_{np.argmax(lost)}")
    again = Page(browser, address, "#" + browser.current_url.partition("#")[2])
    assert len(again.all("#panes figure")) == 2 and again.listed == page.listed
    again.one("#compare").click()
    again.until(lambda: len(again.all("#panes figure")) == 1)
    assert again.address == {"split": ["val"], "image": again.address["image"]}


def test_the_address_leads_back(browser, address):
    page = Page(browser, address)
    page.choose("split", "val")
    page.press(Keys.ARROW_RIGHT, Keys.ARROW_DOWN, "3", " ")
    page.until(lambda: page.address.get("opacity") == ["0"])
    link = browser.current_url
    other = Page(browser, address)
    assert other.name == "train_0"
    browser.get(link)  # in a page that is open already
    other.until(lambda: other.name == "val_1")
    other.until(lambda: "refined · auxsegnet · stage 0" in other.caption)
    assert other.one("#opacity").get_attribute("value") == "0"
    other.press(" ")
    other.until(lambda: other.one("#opacity").get_attribute("value") == "60")


def test_an_address_of_another_gallery_opens_this_one(browser, address):
    page = Page(browser, address, "#image=none&run=gone/0/9&compare=x&layer=depth&sort=x&cam=99")
    assert page.name == "train_0" and "stage 1" in page.caption
    assert len(page.all("#panes figure")) == 1


def test_opacity_is_that_of_the_painting(browser, address):
    page = Page(browser, address, "#image=val_0&opacity=25")
    assert page.one("#panes canvas").value_of_css_property("opacity") == "0.25"
    page.one("#opacity").send_keys(Keys.ARROW_RIGHT)
    page.until(lambda: page.one("#panes canvas").value_of_css_property("opacity") == "0.3")
    assert page.name == "val_0"  # the key was the slider's


def test_marked_images_are_kept_and_saved(browser, address):
    page = Page(browser, address, "#split=test")
    assert "no ground truth" in page.one("#facts").text
    page.press(Keys.ARROW_RIGHT, "x")
    page.until(lambda: page.one("#save").text == "save marked (1)")
    again = Page(browser, address, f"#image={quote(STRANGE)}")
    assert again.name == STRANGE and again.one("#mark").get_attribute("aria-pressed") == "true"
    again.one("#marked").click()
    again.until(lambda: again.listed == [STRANGE])
    again.one("#save").click()
    saved = browser.downloads / "needs_correction.txt"
    again.until(saved.exists)
    assert saved.read_text(encoding="utf-8") == f"{STRANGE}\n"
    again.press("x")
    again.until(lambda: again.listed == [] and again.name == "no image")


def test_without_truth_nothing_is_offered_that_needs_it(browser, tmp_path):
    folder = small_run(tmp_path, masks=False, intermediate=False, certain=False)
    page = Page(browser, gallery_of(folder, intermediate=False).as_uri(), "#image=val_1")
    assert page.texts("#layers .caption") == ["photograph", "CRF"]
    assert not page.one("#errors").is_displayed()
    orders = page.all("#sort option:not([hidden])")
    assert [order.get_attribute("value") for order in orders] == ["name"]


def test_a_folder_that_is_not_whole_says_so(browser, tmp_path):
    page_file = gallery_of(small_run(tmp_path))
    (page_file.parent / "images" / "val_1.js").unlink()
    page = Page(browser, page_file.as_uri(), "#image=val_1")
    assert "images/val_1.js is missing" in page.one("#message").text
    page.press(Keys.ARROW_RIGHT)
    page.until(lambda: page.name == "val_2" and not page.one("#message").is_displayed())
    log = browser.get_log("browser")
    assert len(log) >= 1 and all("val_1.js" in line["message"] for line in log)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(1280, 800), (420, 860)])
def test_it_fits(browser, address, width, height, scheme):
    """Nothing is wider than the window, and text stands out from what lies below it."""
    page = Page(browser, address, "#image=val_1&split=val&compare=baseline/0/0&sort=loss")
    show(browser, width, height, scheme)
    page.until(lambda: browser.execute_script("return innerWidth") == width)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    for selector in ("body", "#facts", "#list .value", "figcaption", ".caption", "label"):
        assert contrast(browser, selector) > 4.5, selector  # WCAG 2.2, AA
    save_screenshot(browser, f"gallery-{width}-{scheme}")


def contrast(browser, selector):
    """Contrast of the text of an element with its ground, by WCAG's formula."""
    script = """
        let element = document.querySelector(arguments[0]);
        const colour = getComputedStyle(element).color;
        const clear = "rgba(0, 0, 0, 0)";
        while (getComputedStyle(element).backgroundColor === clear) element = element.parentElement;
        return [colour, getComputedStyle(element).backgroundColor]
            .map(text => text.match(/[0-9]+/g).slice(0, 3).map(Number));
    """
    values = np.array(browser.execute_script(script, selector)) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    darker, lighter = sorted(linear @ (0.2126, 0.7152, 0.0722))
    return (lighter + 0.05) / (darker + 0.05)
