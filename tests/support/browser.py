"""Looks at the pages of an exporter in a real Chromium, as people do: with a keyboard, a narrow window, a dark screen, a
screen reader (axe-core). Prints what is wrong, one finding a line, and nothing where nothing is.

browser.py check URL CHROMIUM     browser.py pictures URL CHROMIUM DIRECTORY
"""

import sys
import time

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

NARROW, WIDE = {"width": 400, "height": 900}, {"width": 1600, "height": 1000}
# A page that nobody sees does not change.
HIDDEN = "Object.defineProperty(document, 'hidden', { value: true })"
findings = []


def found(where, what):
    findings.append(what)
    print(f"{where}: {what}", flush=True)


def watched(browser, where, **options):
    """A page, of which everything that the browser complains about is a finding."""
    page = browser.new_context(**options).new_page()
    page.on("console", lambda message: message.type in ("error", "warning") and found(where, f"console: {message.text}"))
    page.on("pageerror", lambda error: found(where, f"script: {error}"))
    page.on("requestfailed", lambda request: "ERR_ABORTED" in (request.failure or "") or found(where, f"failed: {request.url}"))
    page.on("request", lambda request: request.url.startswith((base, "data:")) or found(where, f"elsewhere: {request.url}"))
    return page


def paths(browser):
    page = watched(browser, "/")
    page.goto(base)
    series = [link.get_attribute("href") for link in page.query_selector_all("tbody th a")]
    if not series:
        found("/", "no series")
    return ["", *series, "logs", "config"]


def looks_good(browser, path):
    page = watched(browser, f"/{path}", viewport=NARROW)
    page.goto(base + path)
    overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    if overflow > 0:
        found(f"/{path}", f"scrolls sideways by {overflow} px")
    page.context.close()
    # axe needs to be let in; that nothing else needs it is seen above.
    page = watched(browser, f"/{path}", bypass_csp=True)
    page.add_init_script(HIDDEN)
    page.goto(base + path)
    page.evaluate("document.querySelectorAll('details').forEach((details, at) => { details.open = at < 2; })")
    for scheme, size in (("light", WIDE), ("dark", NARROW)):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size(size)
        for violation in Axe().run(page).response["violations"]:
            for node in violation["nodes"]:
                where = f"/{path} {scheme} {size['width']} px"
                found(where, f"axe: {violation['id']}: {node['html'][:200]}: {node['failureSummary']}")
    page.context.close()


def works_without_javascript(browser, path):
    where = f"/{path} without JavaScript"
    script, plain = (watched(browser, where, java_script_enabled=on) for on in (True, False))
    for page in (script, plain):
        page.goto(base + path)
    for page, name in ((plain, "plain"), (script, "script")):
        if page.locator("h1").count() != 1 or len(page.locator("main").inner_text()) < 20:
            found(where, f"{name}: hardly any text")
    if path == "" and "does not refresh itself" not in plain.locator("footer").inner_text():
        found(where, "does not say that it does not refresh")


def answers_to_the_keyboard(browser):
    where = "/ by keyboard"
    page = watched(browser, where, viewport=WIDE)
    page.goto(base)
    links = page.locator("a").count()
    reached = set()
    for _ in range(links + 5):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement?.getAttribute('href')"))
    missing = {link.get_attribute("href") for link in page.query_selector_all("a")} - reached
    if missing:
        found(where, f"not reached: {missing}")
    page.locator("tbody th a").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/series/**")
    page.locator("summary").first.focus()
    before = page.locator("details").first.get_attribute("open")
    page.keyboard.press("Enter")
    if page.locator("details").first.get_attribute("open") == before:
        found(where, "a burst cannot be closed by keyboard")


def refreshes_itself(browser):
    where = "/ refreshing"
    page = watched(browser, where, viewport=WIDE)
    page.goto(base)
    page.evaluate("window.same = true")
    link = page.locator("tbody th a").first
    link.focus()
    before = page.locator("tbody").inner_text()
    page.wait_for_function("before => document.querySelector('tbody').innerText !== before", arg=before, timeout=60_000)
    bursts = page.locator("tbody tr td[data-label=Bursts]").first.inner_text().split()[0]
    page.wait_for_function(
        "was => document.querySelector('tbody tr td[data-label=Bursts]').innerText.split(/\\s/)[0] !== was",
        arg=bursts,
        timeout=60_000,
    )
    if not page.evaluate("window.same"):
        found(where, "the page was loaded again")
    if page.evaluate("document.activeElement.id") != link.get_attribute("id"):
        found(where, "the focus was lost")
    # A page that nobody sees asks for nothing.
    asked = []
    page.evaluate(HIDDEN)
    page.wait_for_timeout(2500)
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(5000)
    if asked:
        found(where, f"a hidden page asks: {asked}")


def check(browser):
    all_paths = paths(browser)
    for path in all_paths:
        begun = time.monotonic()
        looks_good(browser, path)
        works_without_javascript(browser, path)
        print(f"/{path}: {time.monotonic() - begun:.1f} s", file=sys.stderr, flush=True)
    answers_to_the_keyboard(browser)
    refreshes_itself(browser)
    page = browser.new_context().new_page()
    answer = page.goto(base + "series/%22%3E%3Cb%3Ex/y/z")
    if answer.status != 404:
        found("a series that is not there", f"answers {answer.status}")
    page.get_by_text("To the status page").click()
    if page.url.rstrip("/") != base.rstrip("/"):
        found("a series that is not there", f"leads home to {page.url}")
    print(f"looked at {len(all_paths)} pages", file=sys.stderr)


def pictures(browser, directory):
    for scheme, size, name in (("light", WIDE, "page-1600"), ("dark", NARROW, "page-400")):
        page = watched(browser, name, viewport=size, color_scheme=scheme)
        page.goto(base)
        page.screenshot(path=f"{directory}/{name}.png")
    worst = page.locator(".attention a, tbody th a").first.get_attribute("href")
    page = watched(browser, "waterfall", viewport=WIDE, color_scheme="light")
    page.goto(base + worst)
    page.screenshot(path=f"{directory}/page-series.png")


if __name__ == "__main__":
    _, what, base, chromium, *rest = sys.argv
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        {"check": check, "pictures": pictures}[what](browser, *rest)
        browser.close()
    sys.exit(bool(findings))
