"""Draws a `hmpc_ros.ros.web_story.Story` as a page in a browser, by ``viser``."""

from __future__ import annotations

import contextlib
import io
import math
import queue
import socket
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hmpc_ros.ros.web_gate import Gate
from hmpc_ros.ros.web_story import Story

INSTALL = 'pip install viser'
MOST_SEGMENTS = 400  # of a path that is drawn

# Okabe and Ito's colours, which everybody can tell apart, as in the figures.
BLUE, ORANGE, GREEN, GREY = (0, 114, 178), (213, 94, 0), (0, 158, 115), (150, 158, 168)
_DARK, _ROTOR = (38, 38, 43), (140, 153, 173)
#: From a small error to a large one.
_RAMP = np.array([[0, 114, 178], [86, 180, 233], [240, 200, 60], [230, 120, 0], [200, 30, 30]])
_STATES = {'learning': 'green', 'done': 'green', 'stopped': 'red', 'waiting': 'orange'}

# What a button asks for: label, question, service of the learner or of the adapter.
LEARNER_BUTTONS = {
    'start': ('Start learning', 'The learner flies the vehicle by itself, flight after flight.'),
    'stop': ('Stop learning', 'After this flight the best weights go to the controller.'),
}
ADAPTER_BUTTONS = {
    'engage': ('Engage', 'The MPC takes over the vehicle from its autopilot.'),
    'hand_back': ('Hand back', 'The autopilot gets the vehicle back and holds it.'),
}


class PageError(RuntimeError):
    """There is no page; the message says why."""


class Page:
    """A page, open until `close`.

    Args:
        story: what to show.
        host: where to listen.
        port: where to listen.
        buttons: services with a button: ``start``, ``stop``, ``engage``, ``hand_back``.

    Attributes:
        asked: services that somebody asked for and confirmed.

    Raises:
        PageError: viser is not installed.
        ValueError: it cannot listen there.
    """

    def __init__(self, story: Story, host: str, port: int, buttons: Sequence[str] = ()) -> None:
        try:
            import viser
            import viser.uplot
        except ImportError as error:
            raise PageError(
                f'the page needs viser, which is not installed here ({error}): {INSTALL}'
            ) from error
        self._uplot = viser.uplot
        with socket.socket() as probe:
            probe.bind(('127.0.0.1', 0))
            inner = probe.getsockname()[1]
        with contextlib.redirect_stdout(io.StringIO()):  # it names its own port, beside the gate
            self._server = viser.ViserServer(
                host='127.0.0.1', port=inner, label='hmpc', verbose=False
            )
        try:
            self.gate = Gate(host, port, self._server.get_port())
        except ValueError:
            self._server.stop()
            raise
        self._story = story
        self.asked: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._drawn: dict[str, Any] = {}
        self._handles: dict[str, Any] = {}
        self._aimed = False
        self._build_scene()
        self._build_panel(buttons)

    @property
    def watched(self) -> bool:
        """Whether a browser is there."""
        return bool(self._server.get_clients())

    def close(self) -> None:
        """Close it."""
        self.gate.close()
        self._server.stop()

    def answer(self, text: str) -> None:
        """Show what became of a button."""
        self._answer.content = f'*{text}*'

    def offer(self, services: Sequence[str]) -> None:
        """Let only these buttons be pressed: their services are there."""
        for name, button in self._buttons.items():
            if button.disabled == (name in services):
                button.disabled = name not in services

    # -- parts ---------------------------------------------------------------------------------

    def _build_scene(self) -> None:
        scene = self._server.scene
        scene.set_up_direction('+z')
        scene.add_grid(
            '/ground', width=20, height=20, cell_size=0.5, section_size=1.0, plane='xy',
            cell_color=(232, 235, 238), section_color=(208, 213, 219),
        )  # fmt: skip
        self._vehicle = scene.add_frame('/vehicle', show_axes=False, visible=False)
        arm = 0.13  # m; as drawn: seen from where an eight of metres fits the page
        for k, angle in enumerate((0.0, 0.5 * math.pi)):
            scene.add_box(
                f'/vehicle/arm_{k}', _DARK, (2 * arm, 0.02, 0.014),
                wxyz=(math.cos(angle / 2), 0.0, 0.0, math.sin(angle / 2)),
            )  # fmt: skip
        for k, (x, y) in enumerate(((arm, 0.0), (0.0, -arm), (-arm, 0.0), (0.0, arm))):
            scene.add_cylinder(
                f'/vehicle/rotor_{k}', 0.07, 0.012, _ROTOR if k else ORANGE,
                position=(x, y, 0.012),
            )  # fmt: skip

    def _build_panel(self, buttons: Sequence[str]) -> None:
        gui = self._server.gui
        gui.configure_theme(
            control_layout='fixed', control_width='large', show_logo=False,
            show_share_button=False, brand_color=BLUE,
        )  # fmt: skip
        self._state = gui.add_markdown('**waiting for a flight**')
        self._key = gui.add_html('')
        self._buttons: dict[str, Any] = {}
        self._answer: Any = None
        known = {**LEARNER_BUTTONS, **ADAPTER_BUTTONS}
        if buttons:
            with gui.add_folder('Ask'):
                for name in buttons:
                    self._add_button(name, *known[name])
                self._answer = gui.add_markdown('')
        self._curves = gui.add_folder('Curves')
        self._plots: dict[str, Any] = {}
        with gui.add_folder('Identified', visible=False) as self._found_folder:
            self._found = gui.add_html('')

    def _add_button(self, name: str, label: str, meaning: str) -> None:
        colour = 'red' if name == 'engage' else None
        button = self._server.gui.add_button(label, disabled=True, hint=meaning, color=colour)
        self._buttons[name] = button

        @button.on_click
        def _(event: Any) -> None:
            gui = (event.client or self._server).gui
            with gui.add_modal(f'{label}?') as modal:
                gui.add_markdown(meaning)
                yes = gui.add_button(f'Yes, {label[0].lower()}{label[1:]}', color=colour)
                no = gui.add_button('No', color='gray')

            @yes.on_click
            def _(_event: Any) -> None:
                self.asked.put(name)
                modal.close()

            @no.on_click
            def _(_event: Any) -> None:
                modal.close()

    # -- drawing -------------------------------------------------------------------------------

    def draw(self) -> None:
        """Bring the page to where the story is."""
        with self._server.atomic():
            self._draw_scene()
            self._draw_words()
            self._draw_curves()

    def _draw_scene(self) -> None:
        story = self._story
        if story.pose is not None:
            self._vehicle.position, self._vehicle.wxyz = story.pose
            self._vehicle.visible = True
        self._line('reference', story.reference, GREEN, 2.0)
        self._line('plan', story.plan, ORANGE, 4.0)
        self._line('ghost', story.ghost, GREY, 2.0)
        flight = story.flight
        if flight is not None and len(flight.positions) > 1:
            key = (flight.begun, len(flight.positions), flight.positions[-1])
            if self._is_new('flown', key):
                positions, values = np.array(flight.positions), np.array(flight.values)
                self._scale = _scale(values, story)
                self._line('flown', positions, colours(values, self._scale), 5.0, new=True)
        if not self._aimed and len(story.reference) + len(story.ghost) > 1:
            self._aim(story.reference if len(story.reference) > 1 else story.ghost)

    def _aim(self, points: NDArray[np.float64]) -> None:
        """Look at a flight as a whole, from the side and above."""
        low, high = points.min(axis=0), points.max(axis=0)
        middle, size = (low + high) / 2, max(float(np.linalg.norm(high - low)), 1.0)
        place = middle + size * np.array([-0.25, -0.85, 0.62])
        for camera in (
            self._server.initial_camera,
            *(client.camera for client in self._server.get_clients().values()),
        ):
            camera.position, camera.look_at = place, middle
        self._aimed = True

    def _line(
        self, name: str, points: NDArray[np.float64], colour: Any, width: float, new: bool = False
    ) -> None:
        if not new and not self._is_new(name, id(points)):
            return
        segments = np.empty((0, 2, 3))
        tints: Any = np.empty((0, 2, 3), dtype=np.uint8)
        if len(points) > 1:
            keep = np.unique(np.linspace(0, len(points) - 1, MOST_SEGMENTS + 1).astype(int))
            chosen = points[keep]
            segments = np.stack([chosen[:-1], chosen[1:]], axis=1)
            tint = np.broadcast_to(np.asarray(colour, dtype=np.uint8), (len(points), 3))[keep]
            tints = np.stack([tint[:-1], tint[1:]], axis=1)
        handle = self._handles.get(name)
        if handle is None:
            if len(segments):
                self._handles[name] = self._server.scene.add_line_segments(
                    f'/{name}', segments.astype(np.float32), tints, thickness=width,
                    thickness_units='screen',
                )  # fmt: skip
            return
        handle.points, handle.colors = segments.astype(np.float32), tints

    def _is_new(self, name: str, key: Any) -> bool:
        if self._drawn.get(name) == key:
            return False
        self._drawn[name] = key
        return True

    def _draw_words(self) -> None:
        story, parts = self._story, []
        if story.progress is not None:
            p = story.progress
            colour = _STATES.get(p.state, 'gray')
            parts.append(f'<b style="color:{colour}">{p.state}</b> {p.iteration} of {p.iterations}')
        if story.takeover is not None:
            parts.append(f'**autopilot** {story.takeover.message}')
        if story.pose is None:
            parts.append('**waiting for a flight**')
        elif story.flight is not None:
            errors = [value for value in list(story.flight.values)[-1:] if math.isfinite(value)]
            seconds = story.time - story.flight.begun
            text = f'flight {len(story.rmse) + 1}, {seconds:.1f} s'
            if errors:
                text += f'; {1e3 * errors[0]:.0f} mm off' if story.by_error else (
                    f'; {errors[0]:.1f} m/s'
                )  # fmt: skip
            parts.append(text)
        text = '  \n'.join(parts)
        if self._is_new('words', text):
            self._state.content = text
        top = getattr(self, '_scale', math.nan)
        if self._is_new('key', (story.by_error, round(top, 3), len(story.ghost) > 0)):
            self._key.content = _key(story, top)

    def _draw_curves(self) -> None:
        story = self._story
        if len(story.history) > 1:
            rows = story.history
            self._curve('J', 'J per iteration', rows[:, 0], {'J': (rows[:, 3], BLUE)})
        if story.rmse:
            flights = np.arange(1.0, len(story.rmse) + 1)
            errors = 1e3 * np.array(story.rmse)
            self._curve('rmse', 'RMSE per flight [mm]', flights, {'RMSE': (errors, BLUE)})
        if len(story.trust) > 1:
            rows = np.array(story.trust)
            self._curve('trust', 'trust in the model', rows[:, 0], {'trust': (rows[:, 1], GREEN)})
        if len(story.solve_times) > 1:
            rows = np.array(story.solve_times)
            self._curve(
                'solve', 'solve time [ms]', rows[:, 0],
                {'median': (rows[:, 1], BLUE), '99 %': (rows[:, 2], ORANGE)},
            )  # fmt: skip
        if story.identified and self._is_new('identified', str(story.identified)):
            self._found_folder.visible = True
            self._found.content = _identified(story.identified)

    def _curve(
        self, name: str, title: str, x: NDArray[np.float64], curves: dict[str, tuple[Any, Any]]
    ) -> None:
        data = (np.ascontiguousarray(x), *(np.ascontiguousarray(y) for y, _ in curves.values()))
        if not self._is_new(f'curve {name}', (len(x), *(float(each[-1]) for each in data))):
            return
        if name in self._plots:
            self._plots[name].data = data
            return
        series = [self._uplot.Series(label='')]
        for label, (_, colour) in curves.items():
            stroke = '#{:02x}{:02x}{:02x}'.format(*colour)
            points = {'show': True, 'size': 5} if len(x) < 60 else {}
            series.append(
                self._uplot.Series(label=label, stroke=stroke, width=2, points=points)
                if points
                else self._uplot.Series(label=label, stroke=stroke, width=2)
            )
        with self._curves:
            self._plots[name] = self._server.gui.add_uplot(
                data, tuple(series), title=title, height=170,
                scales={'x': self._uplot.Scale(time=False, auto=True)},
            )  # fmt: skip


def colours(values: NDArray[np.float64], top: float) -> NDArray[np.uint8]:
    """Return a colour (n, 3) for each value from 0 to ``top``; grey where there is none."""
    place = np.clip(np.nan_to_num(values) / top, 0.0, 1.0) * (len(_RAMP) - 1)
    rows = [np.interp(place, range(len(_RAMP)), _RAMP[:, k]) for k in range(3)]
    tints = np.stack(rows, axis=1)
    tints[~np.isfinite(values)] = GREY
    return tints.astype(np.uint8)


def _scale(values: NDArray[np.float64], story: Story) -> float:
    """Return where the colours end: what the first whole flight needed, so that they compare."""
    first = np.array(story.first.values) if story.first is not None else values
    finite = first[np.isfinite(first)]
    return max(float(np.percentile(finite, 98)) if len(finite) else 0.0, 1e-3)


def _key(story: Story, top: float) -> str:
    """Return the legend of the lines in the scene."""

    def row(colour: tuple[int, int, int], words: str) -> str:
        return (
            f'<span style="display:inline-block;width:1.4em;height:.25em;margin:0 .4em .2em 0;'
            f'background:rgb{colour}"></span>{words}&emsp;'
        )

    ramp = ','.join(f'rgb{tuple(map(int, each))}' for each in _RAMP)
    what = 'error' if story.by_error else 'speed'
    end = f'{1e3 * top:.0f} mm' if story.by_error else f'{top:.1f} m/s'
    end = '' if math.isnan(top) else f'0 to {end}'
    return (
        '<div style="padding:0 .8em .4em;font-size:.85em">'
        + row(GREEN, 'reference')
        + row(ORANGE, 'plan')
        + (row(GREY, 'first flight') if len(story.ghost) else '')
        + f'<br>flown, by {what} <span style="display:inline-block;width:7em;height:.6em;'
        f'background:linear-gradient(90deg,{ramp})"></span> {end}</div>'
    )


def _identified(found: dict[str, tuple[float, float]]) -> str:
    """Return the identified parameters with their 95 % intervals, as a table."""
    rows = ''.join(
        f'<tr><td>{name}</td><td style="text-align:right;padding:0 .7em">{value:.4f}</td>'
        f'<td>&plusmn; {1.96 * error:.2g}</td></tr>'
        for name, (value, error) in found.items()
    )
    return (
        '<div style="padding:0 .8em .4em;font-size:.85em"><table><tr><td></td><td>estimate</td>'
        f'<td>95 %</td></tr>{rows}</table></div>'
    )


