#!/usr/bin/env bash
# How many seeds would tell two configurations apart? Guess: the larger the difference, the fewer.
#
# Seen (SciPy 1.17.1, statsmodels 0.14.6): losses of configurations often lie several standard deviations of their seeds apart.
# There `scipy.special.nctdtr(degrees, shift, -bound)`, the chance of a significant result in the wrong direction, is NaN for
# many shifts from about 7.6 on (the true value is below 1e-9), without a warning. statsmodels' power adds it to what is right:
# TTestPower().power(3, 10, 0.05) is NaN though TTestPower().power(3, 5, 0.05) is 0.998. Its solver searches across that hole:
# solve_power(effect_size=6, alpha=0.05, power=0.8) warns of no convergence and returns its starting value, 10; 2 are enough.
# What helps: leave the wrong direction out where the shift is above 5 (it adds less than 3e-7), as logs/statistics does.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check scipy==1.17.1 statsmodels==0.14.6
"$work/venv/bin/python" - <<'PY'
import math
import warnings

import numpy as np
from scipy.special import nctdtr, stdtrit
from statsmodels.stats.power import TTestIndPower, TTestPower

bound = stdtrit(9, 0.975)
shifts = [i / 100 for i in range(1, 3000)]
holes = [shift for shift in shifts if math.isnan(nctdtr(9, shift, -bound))]
print(f"9 degrees of freedom: NaN at {len(holes)} of {len(shifts)} shifts, the first is {holes[0] if holes else None}")
few, many = TTestPower().power(3, 5, 0.05), TTestPower().power(3, 10, 0.05)
print(f"power of 3 standard deviations: {few:.4f} with 5 pairs, {many} with 10")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    asked = float(np.ravel(TTestIndPower().solve_power(effect_size=6, nobs1=None, alpha=0.05, power=0.8))[0])
enough = TTestIndPower().power(6, 3, 0.05)
print(f"6 standard deviations: {asked} seeds a side asked for; the power of 3 a side is {enough:.4f}")
assert holes and holes[0] > 7, "nctdtr has no hole any more"
assert few > 0.99 and math.isnan(many), "the power of many seeds is a number now"
assert asked == 10.0 and enough > 0.99, "the solver finds the number now"
PY
echo "as described"
