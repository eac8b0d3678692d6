# bench: plots as SVG, for a page that needs no network and no script
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
# draw(plot) turns one entry of a part's "plots" (bench/README.md says what
# is in it) into SVG text. Colours are classes: the page's style sheet gives
# them their values for a light and a dark background. Nothing is smoothed,
# nothing interpolated: a line joins what was measured, and whiskers are the
# smallest and the largest of the repeated runs.

import html
import math

WIDTH, HEIGHT = 640, 340
LEFT, RIGHT, TOP, BOTTOM = 70, 30, 12, 46
COLOURS = 8
QUANTILES = ((0.5, "50 %"), (0.9, "90 %"), (0.99, "99 %"),
             (0.999, "99.9 %"), (0.9999, "99.99 %"), (0.99999, "99.999 %"))


class PlotError(Exception):
    """The plot's description cannot be drawn."""


def number(value):
    """As people write it: 1,234  12.3  0.041"""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if abs(value) >= 100:
        return "{:,.0f}".format(value)
    return "{:.4g}".format(value)


def nice_ticks(low, high, want=5):
    """Round values that cover low..high, linearly."""
    if high <= low:
        high = low + 1
    raw = (high - low) / want
    step = 10 ** math.floor(math.log10(raw))
    for factor in (1, 2, 2.5, 5, 10):
        if step * factor >= raw:
            step *= factor
            break
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [i * step for i in range(first, last + 1)]


def log_ticks(low, high):
    """1, 10, 100 ...; within one or two decades 1, 2, 5 as well."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    factors = (1, 2, 5) if last - first <= 2 else (1,)
    ticks = [f * 10.0 ** e for e in range(first, last + 1) for f in factors]
    inside = [t for t in ticks if low <= t * 1.0001 and t <= high * 1.0001]
    below = [t for t in ticks if t < low * 0.9999]
    above = [t for t in ticks if t > high * 1.0001]
    return below[-1:] + inside + above[:1]


class Axis:
    """Where a value lies between two ends of the plot."""

    def __init__(self, values, low, high, log=False, zero=False,
                 ticks=None):
        self.log = log
        if log and min(values) <= 0:
            raise PlotError("a value of 0 on a logarithmic axis")
        if ticks is None:
            lo, hi = min(values), max(values)
            ticks = (log_ticks(lo, hi) if log else
                     nice_ticks(0 if zero else lo, hi))
        self.ticks = ticks
        self.low, self.high = low, high
        self.first, self.last = self.at(ticks[0]), self.at(ticks[-1])

    def at(self, value):
        return math.log10(value) if self.log else value

    def __call__(self, value):
        span = (self.last - self.first) or 1
        return self.low + (self.high - self.low) * (
            self.at(value) - self.first) / span


def text(x, y, what, anchor="middle", extra=""):
    return '<text x="%.1f" y="%.1f" text-anchor="%s"%s>%s</text>' % (
        x, y, anchor, extra, html.escape(str(what)))


def line(x1, y1, x2, y2, cls):
    return '<line class="%s" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/>' % (
        cls, x1, y1, x2, y2)


def frame(plot, body, height=HEIGHT):
    label = html.escape(plot.get("title", ""))
    return ('<svg viewBox="0 0 %d %d" role="img" aria-label="%s">%s</svg>' %
            (WIDTH, height, label, "".join(body)))


def y_grid(axis, label):
    out = []
    for t in axis.ticks:
        y = axis(t)
        out.append(line(LEFT, y, WIDTH - RIGHT, y, "grid"))
        out.append(text(LEFT - 6, y + 4, number(t), "end"))
    mid = (TOP + HEIGHT - BOTTOM) / 2
    out.append(text(14, mid, label, extra=' transform="rotate(-90 14 %.1f)"'
                    % mid))
    return out


def x_label(label, height=HEIGHT):
    return text((LEFT + WIDTH - RIGHT) / 2, height - 6, label)


def y_values(plot):
    out = []
    for s in plot["series"]:
        out += [p[1] for p in s["points"]]
        out += [v for pair in s.get("spread") or [] if pair for v in pair]
    out = [v for v in out if v is not None]
    if not out:
        raise PlotError("no points")
    return out


def whisker(x, pair, y, cls):
    if not pair or pair[0] == pair[1]:
        return ""
    return line(x, y(pair[0]), x, y(pair[1]), cls)


def draw_line(plot):
    """Points joined by lines; also the distributions, on their own x."""
    quantiles = plot["kind"] == "percentiles"

    def x_of(value):
        if not quantiles:
            return value
        return 1 / max(1 - value, 1e-9)

    xs = [x_of(p[0]) for s in plot["series"] for p in s["points"]]
    log_x = quantiles or plot.get("log_x", False)
    ticks = None
    if quantiles:
        shown = [(q, n) for q, n in QUANTILES
                 if x_of(q) <= max(xs) * 1.001] or [QUANTILES[0]]
        ticks = [x_of(q) for q, _ in shown]
        names = [n for _, n in shown]
        if max(xs) > ticks[-1] * 1.001:
            ticks.append(max(xs))
            names.append("")
    elif len(set(xs)) <= 8:
        ticks = sorted(set(xs))
        names = [number(t) for t in ticks]
    x = Axis(xs, LEFT, WIDTH - RIGHT, log_x, ticks=ticks)
    if ticks is None:
        names = [number(t) for t in x.ticks]
    y = Axis(y_values(plot), HEIGHT - BOTTOM, TOP, plot.get("log_y", False),
             zero=True)
    out = y_grid(y, plot.get("y", ""))
    for t, name in zip(x.ticks, names):
        if name:
            out.append(line(x(t), TOP, x(t), HEIGHT - BOTTOM, "grid"))
            out.append(text(x(t), HEIGHT - BOTTOM + 16, name))
    out.append(x_label(plot.get("x", "")))
    for n, s in enumerate(plot["series"]):
        cls = colour(n, s)
        dash = " dash" if s.get("dash") else ""
        pts = [(x(x_of(p[0])), y(p[1])) for p in s["points"]]
        out.append('<polyline class="line %s%s" points="%s"/>' % (
            cls, dash, " ".join("%.1f,%.1f" % p for p in pts)))
        spread = s.get("spread") or []
        for i, (px, py) in enumerate(pts):
            if i < len(spread):
                out.append(whisker(px, spread[i], y, "whisker " + cls))
            title = "%s: %s, %s" % (s["name"], number(s["points"][i][0]),
                                    number(s["points"][i][1]))
            out.append('<circle class="dot %s" cx="%.1f" cy="%.1f" r="3">'
                       '<title>%s</title></circle>' % (
                           cls, px, py, html.escape(title)))
    return frame(plot, out)


def colour(n, s):
    return "s%d" % (s.get("colour", n) % COLOURS)


def categories(plot):
    names = []
    for s in plot["series"]:
        for p in s["points"]:
            if p[0] not in names:
                names.append(p[0])
    return names


def draw_bars(plot):
    """A group of bars per category, or one of segments when "stacked"."""
    names = categories(plot)
    series = plot["series"]
    stacked = plot.get("stacked", False)
    if stacked:
        sums = {}
        for s in series:
            for name, value in s["points"]:
                sums[name] = sums.get(name, 0) + value
        values = list(sums.values())
    else:
        values = y_values(plot)
    left, row = 210, 20 if stacked else 13
    group = (row if stacked else row * len(series)) + 12
    height = TOP + group * len(names) + BOTTOM
    log = plot.get("log_y", False)
    if log:
        # a bar has a length, and 0 has none: it is drawn as nothing
        values = [v for v in values if v > 0] or [1]
        values.append(min(values) / 2)
    x = Axis(values + ([] if log else [0]), left, WIDTH - 60, log,
             zero=not log)
    out = []
    for t in x.ticks:
        out.append(line(x(t), TOP, x(t), height - BOTTOM, "grid"))
        out.append(text(x(t), height - BOTTOM + 16, number(t)))
    out.append(x_label(plot.get("y", ""), height))
    for g, name in enumerate(names):
        top = TOP + g * group + 6
        out.append(text(left - 8, top + group / 2 - 2, name, "end"))
        at = 0
        for n, s in enumerate(series):
            found = [(p, (s.get("spread") or [])[i:i + 1])
                     for i, p in enumerate(s["points"]) if p[0] == name]
            if not found:
                continue
            (_, value), spread = found[0]
            begin = x(at) if stacked or not log else left
            end = x(at + value) if value > 0 or not log else left
            y = top if stacked else top + n * row
            cls = colour(n, s)
            out.append('<rect class="bar %s" x="%.1f" y="%.1f" width="%.1f" '
                       'height="%d"><title>%s</title></rect>' % (
                           cls, begin, y, max(end - begin, 0.5), row - 2,
                           html.escape("%s, %s: %s" % (
                               name, s["name"], number(value)))))
            if stacked:
                at += value
            else:
                if spread and spread[0] and spread[0][0] != spread[0][1] \
                        and (not log or spread[0][0] > 0):
                    mid = y + row / 2 - 1
                    out.append(line(x(spread[0][0]), mid, x(spread[0][1]),
                                    mid, "whisker over"))
                    end = max(end, x(spread[0][1]))
                out.append(text(end + 4, y + row - 4, number(value),
                                "start"))
        if stacked:
            out.append(text(x(at) + 4, top + row - 6, number(at), "start"))
    return frame(plot, out, height)


def legend(plot):
    return '<div class="legend">%s</div>' % "".join(
        '<span><i class="key %s%s"></i>%s</span>' % (
            colour(n, s), " dash" if s.get("dash") else "",
            html.escape(s["name"]))
        for n, s in enumerate(plot["series"]))


def draw(plot):
    """SVG of a plot, and its legend. PlotError: it cannot be drawn."""
    try:
        plot = dict(plot, series=[s for s in plot["series"] if s["points"]])
        if not plot["series"]:
            raise PlotError("no points")
        if plot["kind"] == "bars":
            return legend(plot) + draw_bars(plot)
        if plot["kind"] in ("line", "percentiles"):
            return legend(plot) + draw_line(plot)
    except (KeyError, TypeError, ValueError, IndexError,
            AttributeError) as e:
        raise PlotError("%s: %s" % (type(e).__name__, e)) from e
    raise PlotError("of unknown kind %r" % plot["kind"])
