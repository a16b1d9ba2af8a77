"""The table of what the tracking MPC reaches says what was flown."""

import tracking_table


def test_a_line_says_what_was_reached_and_what_was_not():
    step = next(case for case in tracking_table.cases() if case.words == 'step of 2 m')
    flown = {'settle_5cm_s': 1.2, 'settle_2cm_s': None, 'overshoot': 0.0, 'failures': 2}
    line, reached = tracking_table.row(step, flown)
    assert not reached
    assert '1.200 / never / 0.000; 2 failed solves | 1.5 / 1.8 / 0.05 | no |' in line
    line, reached = tracking_table.row(step, {**flown, 'settle_2cm_s': 1.7, 'failures': 0})
    assert reached
    assert line.endswith('| yes |')


def test_the_first_case_is_flown_as_a_user_flies_it(capsys):
    case = next(tracking_table.cases())
    result = tracking_table.fly(case, 'model')
    assert result['configuration']['simulator']['preset'] == 'crazyflie'
    assert tracking_table.row(case, result)[1]
