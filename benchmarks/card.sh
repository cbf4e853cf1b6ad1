#!/usr/bin/env bash
# All figures of the bundled checkpoint's card, from the repository's root: about an hour on two cores.
#
#     bash benchmarks/card.sh DATA [FOLDER]
#
# DATA holds CIFAR-10's train.parquet and test.parquet, or is its hub name. What FOLDER has already is not done again.
set -eu
export OMP_NUM_THREADS=1
data=$1 results=${2:-docs/results}/ghn2-small
mkdir -p "$(dirname "$results")"
ghn-init evaluate "$data" --split test --split predefined --networks 100 --bf16 --workers 2 -o "$results.json"
ghn-init evaluate "$data" --split test --networks 500 --images 1000 --bf16 --workers 2 -o "$results-500.json"
ghn-init evaluate "$data" --split deep --split dense --split bn-free --split wide --networks 20 --images 1000 \
    --bf16 --workers 2 -o "$results-shifted.json"
python benchmarks/card_families.py "$data" -o "$results-families.json"
python benchmarks/results_table.py "$results.json" "$results-500.json" "$results-shifted.json" --plot "$results.png"
