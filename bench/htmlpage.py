# bench: the page
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Rule: what stands on the page was measured and is in a part's JSON, or it
# says that it was not. Nothing here computes a figure.

import html
import json
import os

import bounds
import svgplot
from svgplot import number

STYLE = """
:root { --bg:#ffffff; --fg:#1c2126; --dim:#5b6670; --rule:#d5dade;
 --card:#f6f8f9; --ok:#1a7f4b; --bad:#c0392b; --none:#7a8590;
 --c0:#0b6fb8; --c1:#d1570a; --c2:#1f8f5f; --c3:#8a4fbf; --c4:#b8860b;
 --c5:#c2407e; --c6:#4a5560; --c7:#2aa1a8; }
@media (prefers-color-scheme: dark) { :root { --bg:#14181b; --fg:#e3e8eb;
 --dim:#97a3ad; --rule:#333b41; --card:#1c2226; --ok:#4cc38a; --bad:#ff7b6b;
 --none:#8d99a3; --c0:#57abf0; --c1:#f5924e; --c2:#53c796; --c3:#b98af0;
 --c4:#dfb340; --c5:#ee7db3; --c6:#a9b5bf; --c7:#58cdd4; } }
* { box-sizing: border-box; }
body { margin:0 auto; max-width:1080px; padding:24px 20px 60px;
 background:var(--bg); color:var(--fg);
 font:15px/1.5 "DejaVu Sans","Helvetica Neue",Arial,sans-serif; }
h1 { font-size:26px; margin:0 0 4px; }
h2 { font-size:20px; margin:40px 0 8px; border-bottom:1px solid var(--rule);
 padding-bottom:4px; }
h3 { font-size:15px; margin:22px 0 6px; }
p, .dim { color:var(--dim); margin:4px 0 10px; }
p.small { font-size:13px; }
.scroll { overflow-x:auto; }
table { border-collapse:collapse; width:100%; font-size:13px; }
th, td { text-align:left; padding:4px 10px 4px 0; vertical-align:top;
 border-bottom:1px solid var(--rule); }
table.fixed { table-layout:fixed; min-width:880px; }
th { color:var(--dim); font-weight:normal; }
td.n, th.n { text-align:right; font-variant-numeric:tabular-nums;
 padding-right:14px; }
.ok, .bad, .none { font-weight:bold; white-space:nowrap; }
.ok { color:var(--ok); } .bad { color:var(--bad); }
.none { color:var(--none); font-weight:normal; }
td.why { color:var(--none); }
.plots { display:grid; gap:16px;
 grid-template-columns:repeat(auto-fit,minmax(min(100%,480px),1fr)); }
figure { margin:0; background:var(--card); border:1px solid var(--rule);
 border-radius:6px; padding:12px 14px; }
figure h3 { margin:0 0 4px; }
figcaption { color:var(--dim); font-size:12px; margin-top:6px; }
.legend { font-size:12px; margin-bottom:4px; }
.legend span { margin-right:14px; white-space:nowrap; }
.key { display:inline-block; width:14px; height:4px; margin-right:5px;
 vertical-align:middle; background:var(--k); }
.key.dash { background:repeating-linear-gradient(90deg,var(--k) 0 4px,
 transparent 4px 7px); }
svg { width:100%; height:auto; display:block; }
svg text { fill:var(--dim); font-size:12px; }
.grid { stroke:var(--rule); stroke-width:1; }
.line { fill:none; stroke:var(--k); stroke-width:2; }
.line.dash { stroke-dasharray:5 4; }
.dot { fill:var(--k); } .bar { fill:var(--k); }
.whisker { stroke:var(--k); stroke-width:1.5; opacity:.75; }
.whisker.over { stroke:var(--fg); opacity:.8; }
""" + "".join(".s%d { --k:var(--c%d); }\n" % (n, n)
              for n in range(svgplot.COLOURS))

INFO = (("date", "date"), ("cpu", "processor"), ("cores", "cores"),
        ("memory_gib", "memory, GiB"), ("kernel", "kernel"),
        ("file_system", "file system"), ("samba", "Samba"),
        ("commit", "commit"), ("load_start", "load at the start"),
        ("load_end", "load at the end"), ("rounds", "rounds"),
        ("seconds", "seconds of one run"))


class Damaged(Exception):
    pass


def checked(data):
    """The part as the page needs it; Damaged says what is wrong."""
    if not isinstance(data, dict):
        raise Damaged("is no JSON object")
    part = {"machine": data.get("machine") or {},
            "notes": data.get("notes") or [],
            "rows": data.get("rows") or [],
            "plots": data.get("plots") or []}
    for name, kind in (("machine", dict), ("notes", list), ("rows", list),
                       ("plots", list)):
        if not isinstance(part[name], kind):
            raise Damaged('its "%s" is not a %s' % (name, kind.__name__))
    for row in part["rows"]:
        if not isinstance(row, dict) or not isinstance(
                row.get("name"), str) or not isinstance(
                row.get("value"), (int, float)):
            raise Damaged("has a row without name or value")
    if any(not isinstance(plot, dict) for plot in part["plots"]):
        raise Damaged("has a plot that is none")
    return part


def load(folder):
    """{part: (data, None) or (None, why)}."""
    parts = {}
    for name, _, _ in bounds.PARTS:
        try:
            with open(os.path.join(folder, name + ".json")) as f:
                parts[name] = (checked(json.load(f)), None)
        except FileNotFoundError:
            parts[name] = (None, "was not run")
        except (OSError, ValueError) as e:
            parts[name] = (None, "cannot be read: %s" %
                           str(e).split("\n", maxsplit=1)[0])
        except Damaged as e:
            parts[name] = (None, "cannot be used: it %s" % e)
    return parts


def count(parts):
    held = missed = absent = tests = 0
    for _, goals in bounds.GOALS:
        for _, _, part, name in goals:
            row, _ = bounds.find(parts, part, name)
            if part == "test":
                tests += 1
            elif row is None:
                absent += 1
            elif row.get("pass", True):
                held += 1
            else:
                missed += 1
    return held, missed, absent, tests


def esc(value):
    return html.escape(str(value))


def td(value, cls=""):
    return "<td%s>%s</td>" % (' class="%s"' % cls if cls else "", value)


def table(head, rows, widths=()):
    numeric = {"ours", "peer"}
    return ('<div class="scroll"><table%s>%s<tr>%s</tr>%s</table></div>' % (
        ' class="fixed"' if widths else "",
        "".join('<col style="width:%d%%">' % w for w in widths),
        "".join('<th%s>%s</th>' % (' class="n"' if h in numeric else "",
                                   esc(h)) for h in head),
        "".join("<tr>%s</tr>" % "".join(r) for r in rows)))


def with_unit(row):
    return "%s %s" % (number(row["value"]), esc(row.get("unit", "")))


def with_figures(row):
    """The same, and what a ratio was made of."""
    text = with_unit(row)
    if row.get("figures"):
        text += '<br><span class="dim">%s</span>' % esc(row["figures"])
    return text


def spread(row):
    pair = row.get("spread")
    if not pair or row.get("rounds", 1) < 2:
        return "one run"
    return "%s – %s (%s)" % (number(pair[0]), number(pair[1]),
                             row.get("rounds", "?"))


def verdict(row):
    if row.get("bound") is None:
        return td("reported", "none")
    return td("held", "ok") if row.get("pass") else td("MISSED", "bad")


def by_tests(parts, name):
    """The cells of a bound that tests show: what they printed, and when."""
    said = bounds.told(parts, name)
    lines = ["<code>%s</code>: %s" % (esc(test), esc(text))
             for test, text, _ in said]
    failed = any(passed is False for _, _, passed in said)
    return ['<td class="why" colspan="4">%s</td>' % "<br>".join(lines),
            td("FAILED", "bad") if failed else td("by test", "none")]


def bounds_tables(parts):
    out = []
    for heading, goals in bounds.GOALS:
        rows, absent = [], {}
        for what, wanted, part, name in goals:
            row, why = bounds.find(parts, part, name)
            if part == "test":
                rows.append([td(esc(what)), td(esc(wanted)),
                             *by_tests(parts, name)])
                continue
            if row is None:
                rows.append([td(esc(what)), td(esc(wanted)),
                             '<td class="why" colspan="4">%s</td>' %
                             esc(why), td("not measured", "none")])
                continue
            limit = row.get("bound") or ""
            peer = number(row.get("peer"))
            if not peer:
                peer = "none"
                absent.setdefault(bounds.no_peer(part, row) or
                                  "not measured", []).append(what)
            rows.append([
                td(esc(what)), td(esc(wanted)), td(with_figures(row), "n"),
                td(esc(limit)), td(peer, "n"),
                td(spread(row)), verdict(row)])
        out.append("<h3>%s</h3>" % esc(heading))
        out.append(table(("what", "wanted", "ours", "limit here", "peer",
                          "spread (rounds)", ""), rows,
                         (25, 19, 17, 10, 8, 12, 9)))
        if absent:
            out.append('<p class="small">Without a peer: %s.</p>' % esc(
                "; ".join("%s (%s)" % (", ".join(which), why)
                          for why, which in absent.items())))
    return out


def parts_table(parts):
    rows = []
    for name, command, what in bounds.PARTS:
        data, why = parts[name]
        m = data["machine"] if data else {}
        rows.append([
            td(esc(name)), td(esc(what)),
            td("<code>%s</code>" % esc(command)),
            td(esc(m.get("date", "")) if data else esc(why),
               "" if data else "why"),
            td(esc(m.get("commit", ""))), td(esc(m.get("load_start", ""))),
            td(esc(m.get("rounds", "")))])
    return table(("part", "what", "command", "measured", "commit", "load",
                  "rounds"), rows)


def figures(parts):
    """Every plot of every part; one that cannot be drawn says so."""
    out = []
    for name, _, what in bounds.PARTS:
        data, _ = parts[name]
        if not data or not data["plots"]:
            continue
        out.append("<h3>%s</h3><div class=\"plots\">" %
                   esc(what[0].upper() + what[1:]))
        for plot in data["plots"]:
            try:
                body = svgplot.draw(plot)
            except svgplot.PlotError as e:
                body = '<p class="none">not drawn: %s</p>' % esc(e)
            out.append("<figure><h3>%s</h3>%s<figcaption>%s</figcaption>"
                       "</figure>" % (esc(plot.get("title", "?")), body,
                                      esc(plot.get("note", ""))))
        out.append("</div>")
    return out


def goal_rows():
    return {(part, name) for _, goals in bounds.GOALS
            for _, _, part, row in goals
            for name in (bounds.names(row) if part == "test" else [row])}


def row_table(parts, chosen, head, cells, widths=()):
    """A table per part of those of its rows that are no goal's."""
    wanted = goal_rows()
    out = []
    for name, _, what in bounds.PARTS:
        data, _ = parts[name]
        rows = [r for r in data["rows"] if (name, r["name"]) not in wanted
                and chosen(r)] if data else []
        if rows:
            out.append("<h3>%s</h3>" % esc(what[0].upper() + what[1:]))
            out.append(table(head, [cells(r) for r in rows], widths))
    return out


def further(parts):
    """Limits that are none of that list: counts held by a test, mostly."""
    return row_table(
        parts, lambda r: r.get("bound") is not None,
        ("what", "ours", "limit", "peer", "spread (rounds)", ""),
        lambda r: [td(esc(r["name"])), td(with_unit(r), "n"),
                   td(esc(r["bound"])), td(number(r.get("peer")) or "–",
                                           "n"), td(spread(r)), verdict(r)],
        (36, 18, 11, 9, 16, 10))


def others(parts):
    """What was measured to understand the rest."""
    return row_table(
        parts, lambda r: r.get("bound") is None,
        ("what", "ours", "peer", "spread (rounds)"),
        lambda r: [td(esc(r["name"])), td(with_unit(r), "n"),
                   td(number(r.get("peer")) or "–", "n"), td(spread(r))],
        (40, 22, 14, 24))


def machine(parts):
    names = [n for n, _, _ in bounds.PARTS
             if parts[n][0] and parts[n][0]["machine"]]
    rows = []
    for key, label in INFO:
        values = [parts[n][0]["machine"].get(key, "") for n in names]
        if any(v not in ("", None) for v in values):
            rows.append([td(esc(label))] + [
                td(esc("" if v is None else v)) for v in values])
    return table(["" if i < 0 else names[i]
                  for i in range(-1, len(names))], rows)


def method(parts):
    out = []
    for name, command, _ in bounds.PARTS:
        data, why = parts[name]
        out.append("<h3>%s: <code>%s</code></h3>" % (esc(name),
                                                     esc(command)))
        if data is None:
            out.append('<p class="none">%s</p>' % esc(why))
            continue
        out += ["<p>Note: %s</p>" % esc(n) for n in data["notes"]]
        out.append(table(("row", "how it was got"), [
            [td(esc(r["name"])), td(esc(r.get("how", "not told")))]
            for r in data["rows"]]))
    return out


METHOD = """
<p>A value is the median of its rounds, the spread its smallest and largest
round. What is compared was measured in turns, seconds apart, on one build,
with the storage switched by configuration; the peer is Samba's own storage
unless the row says otherwise. Counts do not depend on the machine's speed;
times and rates do, so the disk's own fdatasync and a plain handle are
measured beside them and limits are made of those. Latency distributions are
of a closed loop (each client sends its next request after the answer):
they show what a client feels; pictures of an offered load say so, and have
the queue in them. Servers,
clients, all nodes and the disk share one machine. To repeat:
<code>make bench-report</code> for all of it in short, or each part's command
with its own rounds (<code>--rounds</code>); the page is made anew by
<code>make bench-page</code>.</p>
"""


def page(parts):
    held, missed, absent, tests = count(parts)
    dates = sorted(p["machine"]["date"] for p, _ in parts.values()
                   if p and p["machine"].get("date"))
    when = dates[-1] if dates else "at an unknown time"
    out = ["<!DOCTYPE html>\n"
           "<!-- SPDX-License-Identifier: GPL-3.0-or-later -->\n"
           "<html lang=\"en\"><head>"
           "<meta charset=\"utf-8\">"
           "<meta name=\"viewport\" content=\"width=device-width\">"
           "<meta name=\"color-scheme\" content=\"light dark\">"
           "<title>phstore: measured</title><style>", STYLE,
           "</style></head><body>",
           "<h1>phstore: measured</h1>",
           "<p>Last part measured %s. Of %d bounds "
           '<span class="ok">%d held</span>, '
           '<span class="bad">%d missed</span>, '
           '<span class="none">%d not measured here, %d are shown by '
           'tests</span>.</p>' % (
               esc(when), held + missed + absent + tests, held, missed,
               absent, tests),
           parts_table(parts), "<h2>Bounds</h2>"]
    out += bounds_tables(parts)
    rest = further(parts)
    if rest:
        out += ["<h2>Further limits</h2>"] + rest
    plots = figures(parts)
    if plots:
        out += ["<h2>Pictures</h2>"] + plots
    rest = others(parts)
    if rest:
        out += ["<h2>Other figures</h2>"] + rest
    out += ["<h2>How each number was got</h2>", METHOD,
            "<h3>The machine</h3>", machine(parts)]
    out += method(parts)
    out.append("</body></html>\n")
    return "".join(out)
