"""The style of a report: one column of text and figures on a screen, A4 pages on paper."""

CSS = """
:root { --sans: "Source Sans 3", "Source Sans Pro", system-ui, "Segoe UI", Roboto, "Noto Sans", sans-serif;
  --mono: "Source Code Pro", ui-monospace, "SFMono-Regular", Menlo, Consolas, "Noto Sans Mono", monospace; }
* { box-sizing: border-box; }
html { scroll-padding-top: 1rem; }
body { margin: 0 auto; padding: 2rem 1.2rem 3rem; max-width: 52rem; font: 16px/1.55 var(--sans); color: var(--ink);
  background: var(--page); overflow-wrap: anywhere; -webkit-text-size-adjust: 100%; }
h1 { font-size: 2rem; line-height: 1.2; margin: .2rem 0 .4rem; }
h2 { font-size: 1.3rem; margin: 2.6rem 0 .3rem; padding-top: .9rem; border-top: 1px solid var(--grid); }
h3 { font-size: 1rem; margin: 1.4rem 0 .3rem; }
p { margin: .4rem 0; }
a { color: inherit; text-underline-offset: 3px; }
a:focus-visible, [tabindex]:focus-visible { outline: 2px solid var(--ink); outline-offset: 2px; }
code { font-family: var(--mono); font-size: .92em; padding: 0 .2em; border-radius: 3px;
  background: color-mix(in srgb, var(--ink) 7%, transparent); white-space: pre-wrap; }
bdi { unicode-bidi: isolate; }
.kicker, .remark, .legend, footer { color: var(--muted); font-size: 14px; }
.kicker { margin: 0; }
.quote { font-size: 1.15rem; }
.quote::before { content: "“"; } .quote::after { content: "”"; }
.lacking { border: 1px dashed var(--muted); border-radius: 6px; padding: .6rem .8rem; }
.prompt { white-space: pre-wrap; border-left: 3px solid var(--grid); padding-left: .8rem; }
.tag { font-size: 12px; color: var(--muted); border: 1px solid var(--grid); border-radius: 8px; padding: 0 .45em;
  white-space: nowrap; }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; margin-top: 1rem; font-size: 15px; }
.facts { display: flex; flex-wrap: wrap; gap: .6rem 2rem; margin: 1rem 0; }
.facts dt { color: var(--muted); font-size: 14px; }
.facts dd { margin: 0; font-size: 1.4rem; line-height: 1.3; }
.facts small { display: block; font-size: 13px; color: var(--muted); }
.pairs { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: .1rem 1.6rem; }
.pairs { margin: .3rem 0; font-size: 15px; }
.pairs div { display: flex; gap: .8rem; justify-content: space-between; border-bottom: 1px solid var(--grid); }
.pairs .wide { grid-column: 1 / -1; justify-content: start; flex-wrap: wrap; }
time, .tokens td:last-child, .tokens code { white-space: nowrap; }
.pairs dt { color: var(--muted); }
.pairs dd { margin: 0; min-width: 0; }
.pairs.config { font-size: 14px; }
.legend { display: flex; flex-wrap: wrap; align-items: center; gap: .2rem 1.1rem; margin: .2rem 0 .6rem; }
.legend > span { display: inline-flex; align-items: center; gap: .35rem; }
.figure.legend svg { min-width: 0; width: auto; }
.scroll { overflow-x: auto; margin: .6rem 0; }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; min-width: 100%; }
th { text-align: right; font-weight: 600; color: var(--muted); border-bottom: 1px solid var(--muted); }
td { text-align: right; border-bottom: 1px solid var(--grid); }
th, td { padding: .2rem .6rem; vertical-align: baseline; overflow-wrap: normal; }
th.text, td.text { text-align: left; }
tr:target { background: color-mix(in srgb, var(--ink) 12%, transparent); }
footer { margin-top: 3rem; border-top: 1px solid var(--grid); padding-top: .6rem; }
@media (max-width: 600px) { body { padding: 1rem .9rem 2rem; } h1 { font-size: 1.6rem; } }
@page { size: A4; margin: 16mm 14mm; }
@media print {
  body { max-width: none; padding: 0; font-size: 10.5pt; }
  nav { display: none; }
  h2, h3, .answer { break-after: avoid; }
  .figure, .facts, .lacking, .pairs div, tr { break-inside: avoid; }
  .figure, .scroll { overflow: visible; }
  .figure svg { min-width: 0; max-height: 212mm; }
  table:not(.tokens) { break-inside: avoid; }
  th, td { padding: .1rem .5rem; }
  thead { display: table-header-group; }
  table { font-size: 8.5pt; }
  a { text-decoration: none; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
