"""Who gets through to the live page."""

from collections.abc import Iterator

import pytest

from hmpc_ros.ros.web_gate import COOKIE, Gate


@pytest.fixture(params=['127.0.0.1', '0.0.0.0'])
def gate(request) -> Iterator[Gate]:
    gate = Gate(request.param, 0, inner=1)
    yield gate
    gate.close()


def verdict(gate: Gate, *lines: str, target: str = '/', host: str = '127.0.0.1:1') -> str:
    head = '\r\n'.join([f'GET {target} HTTP/1.1', f'Host: {host}', *lines, '', ''])
    return gate.judge(head.encode())[0][:4]


def cookie(gate: Gate) -> list[str]:
    return [f'Cookie: {COOKIE}={gate.token}'] if gate.token else []


def test_the_page_itself_gets_in(gate: Gate):
    assert verdict(gate, *cookie(gate), 'Origin: http://127.0.0.1:1') == 'pass'


def test_another_page_in_the_same_browser_does_not(gate: Gate):
    assert verdict(gate, *cookie(gate), 'Origin: http://elsewhere.example') == '403 '


def test_a_name_that_was_made_to_point_here_does_not():
    gate = Gate('127.0.0.1', 0, inner=1)
    assert verdict(gate, host='elsewhere.example') == '403 '
    gate.close()


def test_from_outside_only_the_token_opens():
    gate = Gate('0.0.0.0', 0, inner=1)
    assert verdict(gate) == '401 '
    assert verdict(gate, target='/?token=wrong') == '401 '
    assert verdict(gate, f'Cookie: {COOKIE}=wrong') == '401 '
    assert verdict(gate, target=f'/?token={gate.token}') == '303 '
    assert verdict(gate, *cookie(gate)) == 'pass'
    assert gate.token in gate.url
    gate.close()


def test_an_address_that_is_taken_is_refused_with_a_sentence():
    gate = Gate('127.0.0.1', 0, inner=1)
    with pytest.raises(ValueError, match='cannot listen at'):
        Gate('127.0.0.1', gate.port, inner=1)
    gate.close()
