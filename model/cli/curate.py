"""The command `curate`: clean a corpus."""

from pathlib import Path

import click
from tqdm import tqdm

from model.cli.options import FOLDER, NEW_FOLDER


@click.command("curate")
@click.option("--corpus", type=FOLDER, required=True, help="Folder of DOMAIN.LANG.jsonl.gz files.")
@click.option(
    "--out", type=NEW_FOLDER, required=True, help="Folder for what is kept, in the same layout, and report.json."
)
@click.option("--heldout", type=FOLDER, help="Held-out streams; what overlaps with them is dropped.")
def curate_command(corpus: Path, out: Path, heldout: Path | None) -> None:
    """Clean a corpus: rules of quality, duplicates, held-out text; a report says what was dropped and why."""
    from model.train.data.corpus import corpus_files
    from model.train.data.curation.run import curate

    num_bytes = sum(path.stat().st_size for paths in corpus_files(corpus).values() for path in paths)
    with tqdm(total=num_bytes, desc="curating", unit="B", unit_scale=True) as bar:
        report = curate(corpus, out, heldout, bar.update)
    came, went = report["in"], report["out"]
    for step in report["steps"]:
        for rule in step["dropped"]:
            click.echo(f"{step['name']}: {rule['rule']}: {rule['records']:,} records, {rule['bytes']:,} bytes dropped")
    click.echo(
        f"{went['records']:,} of {came['records']:,} records, {went['bytes']:,} of {came['bytes']:,} bytes; {out}"
    )
