# bench: the pictures of a part, described for svgplot.draw()
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Each function turns results of repeated runs into a plot's description:
# medians as points, the smallest and largest run as spread.

import re
import statistics


def median(values):
    return statistics.median(values)


def plot(kind, title, x, y, series, note, **extra):
    return dict(kind=kind, title=title, x=x, y=y, series=series, note=note,
                **extra)


def series(name, samples, digits=2, **extra):
    """samples: {x: [value of each round]}"""
    return dict(
        name=name,
        points=[[x, round(median(v), digits)] for x, v in samples.items()],
        spread=[[round(min(v), digits), round(max(v), digits)]
                for v in samples.values()], **extra)


def percentile_series(name, histograms, **extra):
    """
    histograms: phbench's of each round, {"count", "p50_us", "p999_us",
    "max_us" ...}. A percentile is there only if ten cycles lie beyond it.
    """
    if all("histogram" in h for h in histograms):
        return dict(name=name, points=pooled(histograms), **extra)
    count = min(h["count"] for h in histograms)
    samples = {}
    for key in sorted(histograms[0], key=len):
        m = re.fullmatch(r"p(\d{2,})_us", key)
        if m is None:
            continue
        quantile = float("0." + m.group(1))
        if round(count * (1 - quantile), 3) >= 10:
            samples[quantile] = [h[key] for h in histograms]
    return series(name, dict(sorted(samples.items())), **extra)


QUANTILES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999,
             0.9995, 0.9998, 0.9999)


def pooled(histograms):
    """Quantiles of all rounds together, from [upper edge, count] each."""
    slots = {}
    for h in histograms:
        for upper, count in h["histogram"]:
            slots[upper] = slots.get(upper, 0) + count
    total, seen, points = sum(slots.values()), 0, []
    edges = iter(sorted(slots.items()))
    upper = 0
    for q in QUANTILES:
        if round(total * (1 - q), 3) < 10:
            break
        while seen < q * total:
            upper, count = next(edges)
            seen += count
        points.append([q, upper])
    return points


def percentiles(title, lines, note):
    return plot("percentiles", title, "share of the cycles that took no "
                "longer", "us", lines, note, log_y=True)
