"""The live page in a real browser, beside real nodes: it loads, moves, and its buttons act.

Pictures of what was seen are written to HMPC_TEST_SCREENSHOTS (build/screenshots); those of the
documentation come from here.
"""

import io
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('viser')
pytest.importorskip('playwright')

from learning_graph import LearningGraph
from PIL import Image
from playwright import sync_api as sync
from scripted_autopilot import HOLD, OFFBOARD, mavlink_flight

from hmpc_ros.ros.graph import NodeSpec, simulation
from hmpc_ros.ros.runner import LocalRunner

CHROMIUM = shutil.which('chromium') or shutil.which('chromium-browser')
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        CHROMIUM is None, reason='no browser here: sudo apt-get install chromium'
    ),
]

WAIT = 180.0  # s; a bound, not a measurement
PICTURES = Path(os.environ.get('HMPC_TEST_SCREENSHOTS', 'build/screenshots'))
# Nothing but the page itself is fetched, and no graphics card is needed.
ARGUMENTS = [
    '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync',
    '--use-angle=swiftshader', '--enable-unsafe-swiftshader',
]  # fmt: skip
WEB = NodeSpec('web', 'hmpc_ros.ros.web_node', 'web', parameters={'port': 0})


@pytest.fixture(scope='module')
def browser() -> Iterator:
    with sync.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


def wait_for(condition: Callable[[], object], what: str, page=None) -> object:
    end = time.monotonic() + WAIT
    while not (found := condition()):
        assert time.monotonic() < end, f'waited {WAIT:g} s for {what}'
        if page is None:
            time.sleep(0.05)
        else:
            page.wait_for_timeout(50)
    return found


def address(lines: Callable[[], list[str]]) -> str:
    """Return where the page is, from what its process says."""

    def told() -> str:
        return next((m[0] for line in lines() if (m := re.search(r'http://\S+', line))), '')

    return str(wait_for(told, 'the address of the page')).rstrip(';')


def visit(browser, url: str):
    page = browser.new_page(viewport={'width': 1280, 'height': 760})
    page.set_default_timeout(1e3 * WAIT)
    page.goto(url, wait_until='domcontentloaded')
    # In the way of the picture, and true of this browser only.
    page.add_style_tag(content='#webgl-software-rendering {display: none}')
    return page


def press(button) -> None:
    """Click without waiting for pictures, which take long where a processor draws them."""
    button.wait_for()
    button.dispatch_event('click')


def words(page) -> str:
    return page.inner_text('body')


def seconds(page) -> float:
    found = re.search(r'flight \d+, ([\d.]+) s', words(page))
    return float(found[1]) if found else -1.0


def picture(page, name: str) -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    taken = Image.open(io.BytesIO(page.screenshot())).convert('RGB')
    # A third of the bytes, for the documentation; rare colours are kept, those of the legend.
    taken.quantize(256, Image.Quantize.MAXCOVERAGE).save(PICTURES / f'{name}.png', optimize=True)


def scene(page) -> bytes:
    return page.screenshot(clip={'x': 0, 'y': 0, 'width': 850, 'height': 760})


def test_the_page_moves_while_a_vehicle_flies(browser):
    given = {'simulator': {'real_time_factor': 1.0, 'mass_scale': 1.2}}
    graph = [*simulation('demo', given), WEB]
    with LocalRunner(graph) as runner:
        page = visit(browser, address(lambda: runner.output('web')))
        wait_for(lambda: seconds(page) > 0, 'the vehicle on the page', page)
        wait_for(lambda: 'mm off' in words(page), 'the error to the reference', page)
        first, before = scene(page), seconds(page)
        wait_for(lambda: seconds(page) > before + 5.0, 'the flight to go on', page)
        assert scene(page) != first
        wait_for(lambda: 'solve time' in words(page), 'the solve times', page)
        picture(page, 'watch_flight')
        runner.check()
        page.close()


def test_the_buttons_act_on_the_learner(browser, tmp_path):
    with ExitStack() as stack:
        graph = LearningGraph(tmp_path / 'results', stack, learner={'iterations': 200})
        graph.add(replace(WEB)).start()
        page = visit(browser, address(lambda: graph.output('web').splitlines()))
        graph.until(lambda: len(graph.monitor.history) > 5, 'some iterations')
        wait_for(lambda: 'J per iteration' in words(page), 'the curve of J', page)
        stop = page.get_by_role('button', name='Stop learning', exact=True)
        wait_for(stop.is_enabled, 'the button to stop', page)

        press(stop)  # and think better of it
        press(page.get_by_role('button', name='No', exact=True))
        page.get_by_role('button', name='No', exact=True).wait_for(state='detached')
        flown = len(graph.monitor.history)
        graph.until(lambda: len(graph.monitor.history) > flown + 1, 'learning to go on')
        assert graph.state == 'learning'

        press(stop)
        press(page.get_by_role('button', name='Yes, stop learning'))
        graph.until(lambda: graph.state == 'paused', 'the learner to stop')
        wait_for(lambda: 'paused' in words(page), 'the state on the page', page)
        picture(page, 'watch_learning')

        start = page.get_by_role('button', name='Start learning', exact=True)
        press(start)
        press(page.get_by_role('button', name='Yes, start learning'))
        graph.until(lambda: graph.state == 'learning', 'the learner to start')
        page.close()


def test_the_buttons_act_on_an_autopilots_adapter(browser):
    pytest.importorskip('pymavlink', reason='an extra: pip install pymavlink')
    with mavlink_flight(beside=[WEB]) as (peer, controller):
        # The controller goes on answering while the browser is busy.
        threading.Thread(target=controller.executor.spin, daemon=True).start()
        page = visit(browser, address(lambda: controller.runner.output('web')))
        engage, hand_back = (
            page.get_by_role('button', name=name, exact=True) for name in ('Engage', 'Hand back')
        )
        wait_for(engage.is_enabled, 'the button to engage', page)
        press(engage)
        press(page.get_by_role('button', name='Yes, engage'))
        wait_for(lambda: 'engage: refused' in words(page), 'the refusal on the page', page)
        assert 'reference_path' in words(page)

        controller.stay_at(0.0, 0.0, 2.0)
        wait_for(lambda: controller.phase == 'ready', 'ready', page)
        press(engage)  # and think better of it
        press(page.get_by_role('button', name='No', exact=True))
        page.get_by_role('button', name='No', exact=True).wait_for(state='detached')
        assert not peer.modes
        press(engage)
        press(page.get_by_role('button', name='Yes, engage'))
        wait_for(lambda: controller.phase == 'taken over', 'the take-over', page)
        assert peer.mode == OFFBOARD
        wait_for(lambda: 'taken over' in words(page), 'the take-over on the page', page)
        picture(page, 'watch_autopilot')

        press(hand_back)
        press(page.get_by_role('button', name='Yes, hand back'))
        wait_for(lambda: peer.mode == HOLD, 'the autopilot to hold', page)
        wait_for(lambda: 'hand_back: handing back' in words(page), 'the answer', page)
        page.close()


def test_a_recording_is_shown_as_a_flight_is(browser, tmp_path):
    with ExitStack() as stack:
        learner = {'iterations': 3, 'record': True}
        graph = LearningGraph(tmp_path / 'results', stack, learner=learner).start()
        graph.until_done()
    recording = next((tmp_path / 'results').glob('*.mcap'))
    command = [sys.executable, '-m', 'hmpc_ros.cli.main', 'watch', '--web', '--port', '0']
    log = tmp_path / 'log'
    with log.open('w') as output, subprocess.Popen(
        [*command, '--bag', str(recording), '--rate', '20'], stdout=output, stderr=output
    ) as process:  # fmt: skip
        try:
            page = visit(browser, address(lambda: log.read_text().splitlines()))
            wait_for(lambda: seconds(page) > 0, 'the recorded flight', page)
            wait_for(lambda: 'done 3 of 3' in words(page), 'the end of the recording', page)
            page.close()
        finally:
            process.terminate()


def test_from_outside_the_page_asks_for_its_token(browser):
    with LocalRunner([replace(WEB, parameters={'port': 0, 'host': '0.0.0.0'})]) as runner:
        url = address(lambda: runner.output('web')).replace('THIS_MACHINE', '127.0.0.1')
        assert 'token=' in url
        with pytest.raises(urllib.error.HTTPError, match='401'):
            urllib.request.urlopen(url.split('?')[0])
        with pytest.raises(urllib.error.HTTPError, match='401'):
            urllib.request.urlopen(f'{url}x')
        page = visit(browser, url)
        wait_for(lambda: 'waiting for a flight' in words(page), 'the page', page)
        assert 'token' not in page.url
        page.close()
