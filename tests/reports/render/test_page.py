"""The page says no more than the records do, is one file that asks for nothing, and works in a real browser."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from synthetic_records import make_failed, make_record, make_run
from typer.testing import CliRunner

from reports import roster
from reports.__main__ import app
from reports.analysis.answer import answer
from reports.analysis.groups import make_groups
from reports.figures.canvas import marker_path
from reports.figures.tradeoff import front, trade_off_rows
from reports.render.page import page
from reports.render.titles import brief_titles, by_information, distinct_titles, documents, training_shows
from reports.render.verdicts import WIDE, drawn_intervals, verdict_tables
from reports.roster import MARKERS
from results.store import Store

EVIL = "ValueError: </script><img src=x onerror=alert(1)> & \"'"
VOID = {"meta", "link", "input", "img", "br"}
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


class Elements(HTMLParser):
    """Every start tag with its attributes; raises where tags do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def values(self, attribute: str, tag: str | None = None) -> list[str]:
        found = [a[attribute] for t, a in self.found if attribute in a and tag in (None, t)]
        return [value or "" for value in found]


def _answer(records):
    (group,) = make_groups(records)
    return answer(group)


def _tied(*methods: str, **changes: Any):
    """The same outcomes for every method."""
    first = make_record(methods[0], layers=1, **changes)
    return [first, *(dataclasses.replace(make_record(m, layers=1), scores=first.scores) for m in methods[1:])]


def test_a_tie_is_called_a_tie_and_one_seed_one_seed():
    found = _answer(_tied("lora", "molora", "frozen"))
    assert found.verdict.startswith("No method is shown to be better than the others. frozen, lora and molora share")
    assert "Training is not shown to help: frozen trains nothing." in found.verdict
    near = _answer(make_run(["lora", "molora"], layers=1))
    assert re.fullmatch(
        r"No method .* molora has the highest accuracy of 2 methods: .* Not significantly different from it: lora\.",
        near.verdict,
    )
    text = " ".join(found.sure)
    assert "95% interval from 320 documents" in text and "over 8 tasks" in text and "One seed" in text
    assert "not that the methods are equal" in text and "embedded split, not comparable" in text
    assert any("measured once" in line for line in found.cost)


def test_a_winner_needs_the_paired_test():
    found = _answer(make_run(["frozen", "lora-smoe"], layers=1, count=400))
    assert re.fullmatch(r"lora-smoe has the .*\. Significantly less accurate: every other one\.", found.verdict)
    assert "not significantly different" not in " ".join(found.cost)
    half = _answer([make_record("frozen", layers=1, count=400), *_tied("lora", "molora", count=400)])
    assert "lora and molora share the highest" in half.verdict and "less accurate: every other one" not in half.verdict
    assert half.verdict.endswith("Significantly less accurate: frozen.")
    assert "different from the best, fewest trainable parameters" in " ".join(half.cost)


def test_nothing_finished_is_no_answer_and_one_method_no_comparison():
    failed = _answer([make_failed("lora")])
    assert failed.verdict == "No answer: no job of this group has finished." and "budget" in failed.failed[0]
    assert _answer([make_record("lora", layers=1)]).verdict.startswith("No comparison: lora")
    assert any("too few" in line for line in _answer([make_record("lora", layers=1, count=1)]).sure)


def test_seeds_are_named_and_their_spread_is_not_in_the_interval():
    text = " ".join(_answer(make_run(["lora", "molora"], seeds=(0, 1), layers=1)).sure)
    assert "Seeds 0, 1." in text and "standard deviation" in text and "leave out" in text
    uneven = [make_record("lora", 0, layers=1), make_record("lora", 1, layers=1), make_record("molora", 1, layers=1)]
    assert "0, 1 of lora; 1 of molora" in " ".join(_answer(uneven).sure)


def test_the_page_is_one_file_whose_markup_holds_and_that_names_no_other_place():
    groups = make_groups([*make_run(layers=2), make_failed("dora", error=EVIL), make_record("lora", train_documents=9)])
    text = page(groups, {})
    found = Elements(text)
    assert [i for i, n in Counter(found.values("id")).items() if n > 1] == []
    assert "img" not in {tag for tag, _ in found.found} and "<img" not in text and "&lt;img src=x" in text
    assert found.values("src") == [] and not [u for u in found.values("href") if "//" in u]
    assert not re.search(r"@import|url\(", text)
    targets = {value[1:] for value in found.values("href") if value.startswith("#")}
    assert targets <= set(found.values("id"))
    headings = [int(tag[1]) for tag, _ in found.found if re.fullmatch("h[1-6]", tag)]
    assert headings[0] == 1 and all(b - a <= 1 for a, b in pairwise(headings))


def test_a_redraw_gives_the_same_bytes_and_check_sees_an_edit(tmp_path):
    store = Store(tmp_path / "records")
    for record in [*make_run(["lora", "molora"], layers=1), make_record("lora", 1, layers=1)]:
        store.save(record)

    def run(*more):
        options = ["--records", store.folder, "--out", tmp_path / "drawn" / "out", "--no-images", *more]
        return CliRunner().invoke(app, [str(o) for o in options])

    assert run().exit_code == 0 and run("--check").exit_code == 0
    file = tmp_path / "drawn" / "out" / "index.html"
    text = file.read_text()
    # A number leads to its record, or to the list of records where it is a mean of several.
    links = re.findall(r'<a href="([^"]+)" tabindex=-1>', text.split("One record a job")[0])
    (molora,) = [r.key for r in store.all() if r.spec.method == "molora"]
    assert links.count(f"../../records/{molora}.json") > 20
    others = {link for link in links if molora not in link}
    assert all(link.endswith("--records") for link in others) and others
    assert all(f'href="../../records/{r.key}.json"' in text for r in store.all())
    named = text.split("Records of each claim")[1].split("</ul>")[0]
    assert len(re.findall(f'href="../../records/{molora}.json">molora, seed 0<', named)) == named.count("molora, ")
    file.write_text(text.replace("molora", "MoLoRA", 1))
    result = run("--check")
    assert result.exit_code == 1 and "index.html: differs" in result.output


@pytest.mark.parametrize(
    "records",
    [
        [],
        [make_failed("lora")],
        [make_record("frozen", layers=1, epochs=0.0)],
        [make_record("adalora", layers=1, count=1), make_failed("lora")],
        [make_record("lora-smoe", layers=1, tasks=("boolq",))],
        [make_record("lora", layers=1, source="hub", model="/a/my model"), make_failed("lora", 1, source="hub")],
    ],
    ids=["empty", "failed", "frozen", "one-document", "one-task", "partial"],
)
def test_little_makes_an_honest_page(records):
    text = page(make_groups(records), {})
    Elements(text)
    assert "No answer" in text or "No comparison" in text
    assert "nan" not in text.lower().replace("nano", "")


def test_chosen_columns_come_first_and_the_others_wait():
    text = page(make_groups(make_run(["lora", "molora"], layers=1)), {}, ["router_params", "macro"])
    table = text[text.index("By method</caption>") :].split("</thead>")[0]
    heads = {name: mark for mark, name in re.findall(r'<th scope="col"([^>]*)>([^<]+)</th>', table)}
    assert list(heads)[:5] == ["Method", "Seeds", "Router", "Macro mean", "95% interval"]
    assert ["extra" in mark for mark in heads.values()][:5] == [False] * 4 + [True] and "extra" in heads["boolq"]


def test_the_page_opens_with_the_comparison_that_says_most_and_names_none_twice():
    records = make_run(["frozen", "lora"], layers=1, count=400)
    records += [make_record(method, layers=1, train_documents=9) for method in ("lora", "molora", "dora")]
    groups = make_groups(records)
    assert len(groups) == 2 and sum(map(training_shows, groups)) == 1
    assert training_shows(by_information(groups)[0]) and documents(by_information(groups)[0]) == 3200
    text = page(groups, {})
    links = re.findall(r'<li><a href="#([^"]+)">([^<]+)</a>', text.split("</nav>")[0])
    assert [name for name, _ in links] == [g.name for g in by_information(groups)]
    assert len({title for _, title in links}) == 2 and all(len(title) < 80 for _, title in links)
    assert "smollm2" not in links[0][1]  # what all share does not tell them apart


def test_words_of_the_title_and_methods_are_explained_before_the_answer():
    methods = ["frozen", "lora", "lora-smoe", "random-experts", "lora-own"]
    text = page(make_groups(make_run(methods, layers=1, match="params", suite_version="2")), {})
    head = text[text.index("<h2>") : text.index('class="verdict"')]
    for word in ("version 2", "loglik protocol", "matched on params", *methods):
        assert f"<dt>{word}</dt> <dd>" in head, word
    assert "molora" not in head  # not in this comparison
    assert all(entry.about for entry in roster.METHODS if entry.in_readme or entry.role == "reference")


def test_equal_titles_are_told_apart_by_what_split_the_groups():
    (group,) = make_groups([make_record("lora", layers=1)])
    twins = [dataclasses.replace(group, name=f"{group.name}--threads-{n}") for n in (2, 4)]
    for titles in (brief_titles(twins), distinct_titles(twins)):
        assert [text.rsplit(" ", 1)[1] for text in titles.values()] == ["(threads-2)", "(threads-4)"]


def test_no_control_is_named_cheapest_and_noise_names_nobody():
    records = _tied("lora", "molora", "lora-smoe", "random-experts")

    def with_seconds(record, seconds):
        costs = {n: dataclasses.replace(c, wall_seconds=seconds) for n, c in record.costs.items()}
        return dataclasses.replace(record, costs=costs)

    alike = [with_seconds(r, s) for r, s in zip(records, (10.0, 10.2, 10.1, 5.0), strict=True)]
    assert "least time" not in " ".join(_answer(alike).cost)
    apart = [with_seconds(r, s) for r, s in zip(records, (10.0, 10.2, 15.0, 5.0), strict=True)]
    (line,) = [text for text in _answer(apart).cost if "least time" in text]
    assert "least time: lora and molora (within 5%)" in line and "random-experts" not in line


def test_of_many_methods_the_main_ones_are_named_and_the_others_folded():
    records = [make_record(method, layers=1) for method in roster.names()]
    found = _answer(records)
    assert len(found.decided) == len(found.decided_all) > 1
    for short, full in zip(found.decided, found.decided_all, strict=True):
        assert len(short) <= len(full)
    assert re.search(r"lora-smoe.* and \d+ others?", found.decided[0]) and "rslora" in found.decided_all[0]
    text = page(make_groups(records), {})
    Elements(text)
    answer_part, verdict_part = text.split('<p class="verdict">')[1].split("Two questions.")[:2]
    assert "<summary>Every method by name</summary>" in answer_part
    tables = len(verdict_tables(make_groups(records)[0]))
    assert f"<summary>{tables - 1} more tables" in verdict_part
    few = _answer(make_run(layers=1))
    assert few.decided and few.decided_all == ()


def test_an_interval_is_drawn_around_its_difference_with_the_margin_as_a_band():
    (group,) = make_groups(make_run(layers=1))
    for drawn, of_measure in zip(drawn_intervals(group), group.judged[0].values(), strict=False):
        for j in of_measure:
            one = drawn[j.row.label]
            assert 0 <= one.low <= one.value <= one.high <= WIDE
            assert (one.value > WIDE / 2) == (j.paired.value > 0) or one.value == WIDE / 2
            low, high = j.asked.interval()
            assert (one.low < WIDE / 2 < one.high) == (low < 0 < high)
    text = page([group], {})
    rows = sum(len(table.rows) for table in verdict_tables(group))
    assert text.count('<svg class="interval"') == rows and text.count('class="band"') == rows
    heads = re.findall(r"<thead><tr>(.*?)</tr>", text.split("Two questions.")[1])[0]
    names = re.findall(r">([^<>]+)</th>", heads)
    assert names[:4] == ["Method", "Verdict", "95% interval", "Seeds"]


def test_every_marker_has_a_path():
    paths = [marker_path(marker) for marker in MARKERS]
    assert len(set(paths)) == len(MARKERS) and all(re.fullmatch(r"M[-\dMLQCZe. ]+Z", path) for path in paths)


# In a browser.


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver")
    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("needs Chromium and its driver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    for switch in (
        "headless=new", "no-sandbox", "disable-gpu", "no-first-run", "disable-background-networking",
        "disable-component-update", "disable-sync", "disable-quic", "disable-dev-shm-usage",
        f"user-data-dir={tmp_path_factory.mktemp('profile')}", "window-size=1280,900",
    ):  # fmt: skip
        options.add_argument(f"--{switch}")
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    started.implicitly_wait(5)  # for what the page draws after a click
    yield started
    started.quit()


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    records = [*make_run(layers=2), make_failed("dora", error=EVIL), make_record("lora-smoe", train_documents=9000)]
    path = tmp_path_factory.mktemp("page") / "index.html"
    path.write_text(page(make_groups(records), {}), encoding="utf-8")
    return path


@pytest.fixture
def opened(browser, file):
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    browser.get_log("performance")
    browser.get(file.as_uri())
    yield browser
    assert browser.get_log("browser") == []  # neither errors nor refusals of the content policy


def _methods(browser, table: str = "table.results") -> list[str]:
    rows = f".group:not([hidden]) {table} tbody tr:not([hidden]) th"
    return browser.execute_script("return [...document.querySelectorAll(arguments[0])].map(c => c.textContent)", rows)


def _find(browser, selector: str):
    return browser.find_element("css selector", f".group:not([hidden]) {selector}")


def _choose(browser, selector: str, value: str) -> None:
    script = "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('change'))"
    browser.execute_script(script, browser.find_element("css selector", selector), value)


def test_it_loads_without_an_error_and_without_the_network(opened, file):
    events = [json.loads(entry["message"])["message"] for entry in opened.get_log("performance")]
    asked = {e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"}
    assert asked <= {file.as_uri(), "data:,"} and file.as_uri() in asked
    assert opened.execute_script("return performance.getEntriesByType('resource').length") == 0
    assert opened.execute_script("return document.querySelector('.verdict').getBoundingClientRect().bottom") < 900


def test_a_heading_sorts_by_mouse_and_by_keyboard_and_the_unknown_comes_last(opened):
    head = _find(opened, "table.results thead th:nth-child(3)")
    head.find_element("css selector", "button").click()
    descending = _methods(opened)
    assert head.get_attribute("aria-sort") == "descending" and descending[-1] == "dora"
    means = [c.text.split(" ")[0] for c in opened.find_elements("css selector", "table.results tbody td:nth-child(3)")]
    known = [float(text) for text in means if text and text != "–"]
    assert known[:5] == sorted(known[:5], reverse=True) and len(set(known)) > 1
    head.find_element("css selector", "button").send_keys("\ue007")  # Enter
    assert head.get_attribute("aria-sort") == "ascending"
    assert _methods(opened) == [*reversed(descending[:-1]), "dora"]
    _find(opened, "table.results thead th:first-child button").send_keys(" ")
    assert _methods(opened) == sorted(descending)
    assert len(opened.find_elements("css selector", "[aria-sort]")) == 1


def test_the_filter_keeps_matching_methods_in_tables_and_plot(opened):
    _find(opened, "input[type=search]").send_keys("LoRA-s")
    assert _methods(opened) == ["lora-smoe"] and _find(opened, "output").text == "1 of 6 methods"
    assert set(_methods(opened, "table.methods")) == {"lora-smoe"}
    assert len(opened.find_elements("css selector", ".group:not([hidden]) .plot .mark")) == 1
    _find(opened, "input[type=search]").send_keys("zzz")
    assert _methods(opened) == [] and "No point" in _find(opened, ".plot figcaption").text


def test_columns_can_be_shown_and_hidden(opened):
    def shown() -> list[str]:
        heads = opened.find_elements("css selector", ".group:not([hidden]) table.results thead th")
        return [h.text.split(" ↕")[0] for h in heads if h.is_displayed()]

    assert "Router" not in shown() and "boolq" in shown()
    _find(opened, ".choice summary").click()
    for label in opened.find_elements("css selector", ".group:not([hidden]) .choice label"):
        if label.text in ("Router", "boolq"):
            label.click()
    assert "Router" in shown() and "boolq" not in shown()


def test_a_comparison_has_an_address_and_the_back_button_returns_to_it(opened):
    def shown() -> list[str]:
        return [g.get_attribute("id") for g in opened.find_elements("css selector", ".group") if g.is_displayed()]

    def wait() -> None:
        assert opened.execute_async_script("setTimeout(arguments[0], 150)") is None

    first, second = (a.get_attribute("hash")[1:] for a in opened.find_elements("css selector", ".comparisons a"))
    assert shown() == [first] and _methods(opened) != ["lora-smoe"]
    opened.find_element("css selector", f'.comparisons a[href="#{second}"]').click()
    wait()
    assert shown() == [second] and opened.current_url.endswith(f"#{second}")
    assert _methods(opened) == ["lora-smoe"] and _find(opened, ".plot svg").is_displayed()
    assert opened.find_element("css selector", "[aria-current]").get_attribute("hash") == f"#{second}"
    opened.back()
    wait()
    assert shown() == [first]
    opened.execute_script("location.hash = arguments[0]", f"{second}--records")
    wait()
    assert shown() == [second] and _find(opened, "section[id$=records] table").is_displayed()  # the fold opened


def test_a_page_of_many_comparisons_shows_one_and_is_not_endless(opened):
    assert opened.execute_script("return document.documentElement.scrollHeight") < 6000
    assert sum(g.is_displayed() for g in opened.find_elements("css selector", ".group")) == 1


def test_the_plot_draws_any_two_metrics_with_its_front_and_intervals(opened):
    def names() -> list[str]:
        return [_find(opened, f".plot .{axis}-name").get_attribute("textContent") for axis in "xy"]

    assert names() == ["Trainable (parameters)", "Macro mean (%)"]
    (group,) = [g for g in make_groups(make_run(layers=2)) if len(g.rows) > 1]
    expected = [r for r in trade_off_rows(group, "trainable_params") if r["front"]]
    expected.sort(key=lambda r: r["trainable_params"])
    assert f"(verdicts at 5%): {', '.join(r['method'] for r in expected)}." in _find(opened, ".plot figcaption").text
    assert len(opened.find_elements("css selector", ".group:not([hidden]) .plot .bar")) == 5
    opened.execute_script("document.querySelector('.plot input').click()")
    assert "frozen" in _find(opened, ".plot figcaption").text.split("Not drawn")[1]  # 0 has no logarithm
    opened.execute_script("document.querySelector('.plot input').click()")
    _choose(opened, ".plot [data-axis=x]", "total_seconds")
    _choose(opened, ".plot [data-axis=y]", "train_speed")
    assert names() == ["Time (s)", "Train speed (tokens/second)"]
    assert "front" not in _find(opened, ".plot figcaption").text  # verdicts are on accuracy
    assert opened.find_elements("css selector", ".group:not([hidden]) .plot .bar") == []
    mark = _find(opened, ".plot .mark")
    opened.execute_script("arguments[0].focus()", mark)
    assert _find(opened, ".tip").is_displayed() and "Time:" in _find(opened, ".tip").text
    assert "tokens/second" in mark.get_attribute("aria-label")


def test_the_front_of_the_plot_is_that_of_the_figures(opened):
    costs = {"a": 100.0, "b": 104.0, "c": 108.0, "d": 200.0, "e": 0.0}
    accuracies = {"a": 0.50, "b": 0.52, "c": 0.51, "d": 0.60, "e": 0.40}
    for outdone in ({"a": "e", "b": "ae", "c": "ae", "d": "abce"}, {"b": "e", "c": "e", "d": "abc"}, {}):
        told = {name: [*outdone.get(name, "")] for name in costs}
        points = [
            {"point": {"label": name, "outdone": told[name]}, "x": costs[name], "y": accuracies[name]} for name in costs
        ]
        script = "return paretoFront(arguments[0], {direction: 'lower'}).map((p) => p.point.label)"
        assert opened.execute_script(script, points) == front(costs, accuracies, told)


def test_a_phone_scrolls_tables_and_never_the_page(opened):
    metrics = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    sizes = "return [document.documentElement.scrollWidth, innerWidth]"
    assert opened.execute_script(sizes) == [390, 390]
    table = _find(opened, ".scroll:has(table.results)")
    assert opened.execute_script("return arguments[0].scrollWidth > arguments[0].clientWidth", table)
    widths = "return [...document.querySelectorAll('.plot svg')].every(s => s.getBoundingClientRect().right <= 390)"
    assert opened.execute_script(widths)


def test_dark_mode_and_print_apply(opened):
    def colours(**media: Any) -> list[str]:
        opened.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        return opened.execute_script("const s = getComputedStyle(document.body); return [s.backgroundColor, s.color]")

    dark, light = ({"features": [{"name": "prefers-color-scheme", "value": v}]} for v in ("dark", "light"))
    assert colours(**light) == ["rgb(255, 255, 255)", "rgb(26, 26, 26)"]
    assert colours(**dark) == ["rgb(20, 23, 26)", "rgb(236, 236, 236)"]
    assert colours(media="print", **dark)[0] == "rgb(255, 255, 255)"
    assert not _find(opened, ".controls").is_displayed()


def test_the_numbers_of_a_quiet_map_need_no_mouse(opened):
    def shown() -> bool:
        script = (
            "const s = getComputedStyle(arguments[0]); return parseFloat(s.fontSize) > 5 && s.color !== arguments[1]"
        )
        return opened.execute_script(script, cell, "rgba(0, 0, 0, 0)")

    _find(opened, "section[id$=sensitivity] summary").click()
    cell = _find(opened, ".heat.quiet tbody td")
    assert not shown()
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert shown()
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    cell.click()  # a tap; the Tab key stops at the map as well
    assert shown() and opened.switch_to.active_element == _find(opened, ".scroll:has(> .quiet)")


def test_tables_can_be_read_without_javascript(browser, file):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(file.as_uri())
        assert len(browser.find_elements("css selector", ".group")) == 2
        for selector, seen in (("table.results", True), ("table.heat", True), (".controls", False), (".plot", False)):
            if selector == "table.heat":
                browser.find_element("css selector", "section[id$=experts] summary").click()
            assert browser.find_element("css selector", selector).is_displayed() is seen
        assert not browser.find_elements("css selector", "th button")
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
