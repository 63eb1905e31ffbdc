"""The style of pages: by day and by night, on a screen and on paper."""

STYLE = """
:root{color-scheme:light dark;--paper:#fbfaf7;--card:#fff;--ink:#1d2327;--soft:#667079;
--line:#e6e3dc;--add:#17713f;--add-bg:#e2f4e7;--rem:#b0303a;--rem-bg:#fbe6e6;--chg:#8a5a00;
--chg-bg:#fdf1d7;--bar:#d9a441;--shadow:0 1px 2px #1d23270d,0 4px 16px #1d23270a}
@media (prefers-color-scheme:dark){:root{--paper:#14181b;--card:#1b2126;--ink:#e4e7e9;
--soft:#94a0a9;--line:#2c343b;--add:#7fd79b;--add-bg:#17372380;--rem:#f5979c;--rem-bg:#4a1d2280;
--chg:#ecc06c;--chg-bg:#43330f80;--bar:#b98a35;--shadow:none}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:76rem;padding:2.5rem 1.5rem 4rem;background:var(--paper);
color:var(--ink);font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif}
h1{font-size:2rem;line-height:1.2;margin:.1rem 0 .5rem;letter-spacing:-.015em;
overflow-wrap:anywhere}
h2{font-size:1.2rem;margin:0 0 .2rem;overflow-wrap:anywhere}
h3{font-size:.95rem;margin:1.6rem 0 .5rem}
h3 .muted{font-weight:400;margin-left:.4rem}
p{margin:.2rem 0}
code,td,tbody th{font-family:ui-monospace,"SF Mono","Cascadia Mono",Menlo,Consolas,
"Liberation Mono",monospace;font-size:.86em}
td code{font-size:1em}
.eyebrow{text-transform:uppercase;letter-spacing:.12em;font-size:.72rem;color:var(--soft);
font-weight:600}
.muted{color:var(--soft)}
.ends code{background:var(--card);border:1px solid var(--line);border-radius:5px;
padding:.1em .45em}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(9rem,1fr));gap:.9rem;
margin:1.6rem 0}
.tile,.table{background:var(--card);border:1px solid var(--line);border-radius:12px;
box-shadow:var(--shadow)}
.tile{padding:.9rem 1.1rem}
.tile b{display:block;font-size:1.7rem;line-height:1.2;font-variant-numeric:tabular-nums;
letter-spacing:-.01em}
.tile span{color:var(--soft);font-size:.86rem}
.tile.added b,li.added b{color:var(--add)}
.tile.removed b,li.removed b{color:var(--rem)}
.tile.changed b,li.changed b{color:var(--chg)}
.table{padding:1.3rem 1.4rem 1.5rem;margin:1.2rem 0}
h2 em{font:600 .7rem/1 system-ui,sans-serif;vertical-align:middle;padding:.3em .7em;
border-radius:99px;margin-left:.4rem}
em.added{background:var(--add-bg);color:var(--add)}
em.removed{background:var(--rem-bg);color:var(--rem)}
.columns{list-style:none;padding:0;margin:0;display:grid;gap:.25rem}
.columns li b{display:inline-block;width:1rem;text-align:center}
.columns span{color:var(--soft);margin-left:.5rem;font-size:.88rem}
.columns i{font-style:normal}
.bars{display:grid;grid-template-columns:max-content minmax(6rem,1fr) max-content;gap:.3rem .9rem;
align-items:center;max-width:46rem}
.bars code{overflow-wrap:anywhere;max-width:22rem}
.bars b{font-weight:500;font-variant-numeric:tabular-nums;text-align:right}
.bar{height:.55rem;border-radius:99px;background:var(--line);overflow:hidden}
.bar i{display:block;height:100%;border-radius:99px;background:var(--bar)}
.scroll{overflow:auto;max-height:34rem;border:1px solid var(--line);border-radius:9px}
table{border-collapse:separate;border-spacing:0;width:100%}
th,td{padding:.42rem .75rem;text-align:left;vertical-align:top;white-space:pre-wrap;
overflow-wrap:anywhere}
thead th{position:sticky;top:0;background:var(--card);color:var(--soft);font-size:.78rem;
font-weight:600;border-bottom:1px solid var(--line);white-space:nowrap}
tbody th{font-weight:500}
tbody tr+tr td{border-top:1px solid var(--line)}
.changes tbody+tbody tr:first-child>*{border-top:1px solid var(--line)}
.changes tbody tr+tr td{border-top:0;padding-top:0}
.changes tbody tr:not(:last-child) td{padding-bottom:.15rem}
.changes td:nth-last-child(3){color:var(--soft)}
.rows td,.changes tbody th,.changes td code{white-space:nowrap}
.changes td{min-width:9rem;max-width:28rem}
.rows td:first-child{font-weight:500}
.rows.added td:first-child{box-shadow:inset 3px 0 var(--add)}
.rows.removed td:first-child{box-shadow:inset 3px 0 var(--rem)}
del,ins{text-decoration:none;border-radius:3px;padding:.08em .25em;margin:0 -.05em;
box-decoration-break:clone;-webkit-box-decoration-break:clone}
del{background:var(--rem-bg);color:var(--rem)}
ins{background:var(--add-bg);color:var(--add)}
.nil::before{content:"∅"}
.null{font-style:italic;opacity:.75}
.empty{background:var(--card);border:1px dashed var(--line);border-radius:12px;padding:2.5rem;
text-align:center;color:var(--soft)}
footer{color:var(--soft);font-size:.82rem;margin-top:2.5rem;text-align:center}
@media (max-width:40rem){body{padding:1.4rem .9rem}.table{padding:1rem}}
@media print{body{background:#fff;max-width:none}.scroll{max-height:none;overflow:visible}
.tile,.table{box-shadow:none;break-inside:avoid-page}}
"""
