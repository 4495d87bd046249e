"""The template of corpus.html; nothing in it is loaded from elsewhere."""

PAGE = """<!doctype html>
<html lang="zh-CN"><head><meta charset="utf-8"><title>{{ name }} – corpus ledger</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body { font: 15px/1.55 system-ui, "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", "Noto Serif CJK SC", sans-serif;
  color: #1f2937; max-width: 1080px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.6em; margin-bottom: 0; } h2 { margin-top: 2em; border-bottom: 1px solid #e5e7eb; }
h3 { margin: 1.6em 0 .3em; } .sub { color: #6b7280; margin-top: .2em; }
table { border-collapse: collapse; font-size: .92em; margin: .6em 0; }
th, td { padding: .25em .7em; border-bottom: 1px solid #e5e7eb; text-align: left; vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.wide { overflow-x: auto; } svg text { font: 11px system-ui, "Noto Sans CJK SC", sans-serif; fill: #374151; }
svg { max-width: 100%; } .cards { display: flex; flex-wrap: wrap; gap: 1em; margin: 1em 0; }
.card { border: 1px solid #e5e7eb; border-radius: 6px; padding: .5em 1em; } .card b { display: block; font-size: 1.35em; }
.measures { display: flex; flex-wrap: wrap; gap: 1.2em; font-size: .88em; } .t { color: #374151; word-break: break-all; }
summary { cursor: pointer; color: #2563a8; } code { background: #f3f4f6; padding: 0 .25em; }
</style></head><body>
<h1>{{ name }}</h1><p class="sub">{{ subtitle }}</p>
<div class="cards">{% for label, value, note in cards %}
<div class="card">{{ label }}<b>{{ value }}</b>{{ note }}</div>{% endfor %}
</div>
<h2>Where documents went</h2>{{ drops | safe }}
<h2>Lengths</h2>{{ lengths | safe }}
<h2>Sources</h2><div class="wide"><table>
<tr><th>source</th>
<th>licence</th>
{% for head in source_heads %}
<th class="n">{{ head }}</th>{% endfor %}
</tr>
{% for row in sources %}
<tr><td>{{ row[0] }}</td>
<td>{{ row[1] }}</td>
{% for cell in row[2:] %}
<td class="n">{{ cell }}</td>{% endfor %}
</tr>{% endfor %}
</table></div>
{% if more_sources %}<p class="sub">and {{ more_sources }} smaller sources, all of them in corpus.json</p>{% endif %}
{% if unreadable %}<h2>What could not be read</h2><table><tr><th>reason</th>
<th class="n">lines</th>
<th>first</th></tr>
{% for reason, count, first in unreadable %}
<tr><td>{{ reason }}</td>
<td class="n">{{ count }}</td>
<td class="t">{{ first }}</td></tr>
{% endfor %}
</table>{% endif %}
<h2>Steps</h2>{% for step in steps %}
<h3>{{ step.label }}</h3>
<p class="sub">{{ step.settings }}</p><p>{{ step.said }}</p>
{% if step.reasons %}<table>{% for reason, count, share in step.reasons %}
<tr><td>{{ reason }}</td>
<td class="n">{{ count }}</td>
<td class="n">{{ share }}</td></tr>{% endfor %}
</table>{% endif %}
<div class="measures">{% for measure, picture in step.plots %}
<div>{{ measure }}<br>{{ picture | safe }}</div>{% endfor %}
</div>
{% if step.dropped %}<details><summary>samples of what was dropped</summary><div class="wide"><table>
{% for sample in step.dropped %}
<tr><td>{{ sample.source }}:{{ sample.place }}</td>
<td>{{ sample.reason }}<br>{{ sample.value }} {{ sample.detail }}</td>
<td class="t">{{ sample.text }}</td></tr>{% endfor %}
</table></div></details>{% endif %}
{% if step.changed %}<details><summary>samples of what was changed</summary><div class="wide"><table>
{% for sample in step.changed %}
<tr><td>{{ sample.source }}:{{ sample.place }}</td>
<td class="t">{{ sample.before }}</td>
<td class="t">{{ sample.after }}</td></tr>{% endfor %}
</table></div></details>{% endif %}
{% endfor %}
{% if duplicates %}<h2>Duplicates</h2><table>{% for key, count in duplicates.items() %}
<tr><td>{{ key }}</td>
<td class="n">{{ count }}</td></tr>{% endfor %}
</table>
{% if pairs %}<details><summary>examples</summary><div class="wide"><table>
<tr><th>similarity</th>
<th>kept</th>
<th>dropped</th></tr>
{% for pair in pairs %}
<tr><td class="n">{{ pair.similarity }}</td>
<td class="t">{{ pair.kept }}</td>
<td class="t">{{ pair.dropped }}</td></tr>{% endfor %}
</table></div></details>{% endif %}
{% endif %}
</body></html>
"""
