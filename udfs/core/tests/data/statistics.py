"""Writes statistics.json: what SciPy, statsmodels, mpmath and ClickHouse say, for the tests of the statistics kernels.

    pip install mpmath numpy scipy statsmodels chdb
    python statistics.py > statistics.json
"""

import json
import math
from fractions import Fraction

import chdb
import mpmath
import numpy as np
from scipy import special, stats
from statsmodels.stats.proportion import confint_proportions_2indep, proportions_ztest
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

random = np.random.default_rng(42)
out = {}

# Tails and special functions to 50 digits; SciPy's own are off by up to 3e-9 for Student's distribution near zero.
mpmath.mp.dps = 50


def student_two_sided(t, df):
    t, df = mpmath.mpf(t), mpmath.mpf(df)
    return mpmath.betainc(df / 2, 0.5, 0, df / (df + t * t), regularized=True)


out["normal"] = [[z, mpmath.ncdf(z), mpmath.ncdf(-z)] for z in (-37.0, -8.5, -3.0, -1.0, -1e-9, 0.0, 0.3, 1.96, 5.0, 12.0, 37.0)]
out["normal_quantile"] = [
    [p, mpmath.findroot(lambda z, p=p: mpmath.log(mpmath.ncdf(z) / mpmath.mpf(p)), float(special.ndtri(p)))]
    for p in (1e-300, 1e-20, 1e-9, 0.001, 0.025, 0.2, 0.6, 0.8, 0.975, 0.999999)
]
out["student"] = [
    [t, df, student_two_sided(t, df)]
    for t in (1e-8, 0.1, 1.0, 2.5, 7.0, 40.0)
    for df in (0.7, 1.0, 2.0, 4.5, 30.0, 999.25, 1e5, 1e6)
]
out["student_quantile"] = [
    [alpha, df, mpmath.findroot(lambda t, a=alpha, df=df: mpmath.log(student_two_sided(t, df) / mpmath.mpf(a)), float(stats.t.isf(alpha / 2, df)))]
    for alpha in (1e-6, 0.01, 0.05, 0.5, 0.99)
    for df in (1.0, 2.0, 3.7, 12.0, 250.5, 1e5)
]
out["chi_squared"] = [
    [x, df, mpmath.gammainc(mpmath.mpf(df) / 2, mpmath.mpf(x) / 2, regularized=True)]
    for x in (1e-6, 0.5, 3.0, 20.0, 150.0, 1010.0)
    for df in (1.0, 2.0, 7.0, 64.0, 1000.0)
]
out["beta"] = [
    [a, b, x, mpmath.betainc(a, b, 0, x, regularized=True), mpmath.betainc(b, a, 0, 1 - mpmath.mpf(x), regularized=True)]
    for a, b, x in ((0.5, 0.5, 0.1), (3, 7, 0.2), (300, 700, 0.31), (5e4, 0.5, 0.9999), (2e3, 3e3, 0.4003), (1e-3, 2, 0.5), (20, 3, 0.999))
]
out["gamma"] = [
    [a, x, mpmath.gammainc(a, 0, x, regularized=True), mpmath.gammainc(a, x, regularized=True)]
    for a, x in ((0.5, 0.1), (3, 2), (300, 310), (1e5, 99800), (0.01, 1e-5), (7, 60))
]
out["digamma"] = [[x, mpmath.digamma(x)] for x in (1e-3, 0.1, 1.0, 1.4616321449683623, 5.5, 12.0, 1e6)]
out["ln_beta"] = [[a, b, mpmath.log(mpmath.beta(a, b))] for a, b in ((0.5, 0.5), (1e-3, 30), (20, 40), (1e5, 2e5), (16, 1e6))]
# 2F1(r + x, b + x; a + b + x - 1; z) as BG/NBD asks for it.
out["hypergeometric"] = [
    [a, b, c, z, mpmath.hyp2f1(a, b, c, z)]
    for a, b, c, z in ((2.243, 4.426, 4.219, 0.3), (0.243, 2.426, 2.219, 0.5), (20.2, 22.4, 22.2, 0.47), (0.243, 2.426, 2.219, 0.95), (1.5, 2.0, 6.0, 0.8))
]


def floats(values):
    return [float(value) for value in values]


def texts(values):
    """Readers of JSON round numbers their own way."""
    return [repr(float(value)) for value in values]


samples = [
    (random.normal(10, 2, 40), random.normal(11, 3, 25)),
    (random.normal(1e6, 1e-3, 30), random.normal(1e6, 1e-3, 30)),
    (random.lognormal(0, 2, 300), random.lognormal(0.2, 2, 280)),
    (np.array([20.3, 22.1, 21.9]), np.array([18.9, 20.3, 19.0])),
    (np.array([1.0, 2.0]), np.array([4.0, 4.5])),
]


def moments(values):
    """Count, mean and standard deviation from exact fractions: rounded once."""
    exact = [Fraction(float(value)) for value in values]
    mean = sum(exact) / len(exact)
    variance = sum((value - mean) ** 2 for value in exact) / (len(exact) - 1)
    return float(mean), mpmath.sqrt(mpmath.mpf(variance.numerator) / variance.denominator), len(exact)


out["t_tests"] = []
for a, b in samples:
    row = {"a": texts(a), "b": texts(b)}
    (_, sd_a, n_a), (_, sd_b, n_b) = moments(a), moments(b)
    # The difference of exact means: beside means of a million, SciPy's own loses ten digits.
    gap = float(sum(map(Fraction, floats(a))) / n_a - sum(map(Fraction, floats(b))) / n_b)
    for name, equal in (("student", True), ("welch", False)):
        test = stats.ttest_ind_from_stats(gap, float(sd_a), n_a, 0.0, float(sd_b), n_b, equal_var=equal)
        own = stats.ttest_ind(a, b, equal_var=equal)
        assert abs(own.pvalue - test.pvalue) < 1e-5
        middle = (float(np.min(a)) + float(np.min(b))) / 2
        df = float(stats.ttest_ind(a - middle, b - middle, equal_var=equal).df)
        margin = float(stats.t.isf(0.05, df)) * gap / float(test.statistic)
        row[name] = floats([test.statistic, df, test.pvalue, gap - margin, gap + margin])
        low, high = CompareMeans(DescrStatsW(a - middle), DescrStatsW(b - middle)).tconfint_diff(0.1, usevar="pooled" if equal else "unequal")
        assert abs(low - gap + margin) < 1e-6 and abs(high - gap - margin) < 1e-6
    out["t_tests"].append(row)

out["mann_whitney"] = []
for a, b in (
    (random.normal(0, 1, 30), random.normal(0.4, 1, 41)),
    (random.normal(0, 1, 7), random.normal(0.8, 1, 12)),
    (random.normal(0, 1, 8), random.normal(0.1, 1, 500)),
    (random.integers(0, 6, 60), random.integers(1, 7, 50)),
    (random.integers(0, 4, 5), random.integers(1, 5, 6)),
    (np.array([10.0, 11, 12]), np.array([1.0, 2, 3])),
):
    row = {"a": floats(a), "b": floats(b), "tests": []}
    for alternative in ("two-sided", "less", "greater"):
        for method in ("auto", "asymptotic"):
            test = stats.mannwhitneyu(a, b, alternative=alternative, method=method)
            row["tests"].append([alternative, method, float(test.statistic), float(test.pvalue)])
    out["mann_whitney"].append(row)

out["independence"] = []
for table in ([[10, 20], [30, 5]], [[10, 20], [11, 19]], [[12, 7, 30], [5, 5, 41]], [[1, 2], [3, 4], [5, 60], [7, 8]], [[36342, 8358], [37112, 8387]]):
    for correct in (True, False):
        test = stats.chi2_contingency(table, correction=correct)
        v = stats.contingency.association(np.array(table), method="cramer", correction=False)
        out["independence"].append([table, correct, float(test.statistic), float(test.pvalue), float(test.dof), float(v)])
out["goodness"] = []
for counts, shares in (([44700, 45489], [1, 1]), ([100, 210, 290], [1, 2, 3]), ([5, 5], [9, 1])):
    expected = np.array(shares) / sum(shares) * sum(counts)
    out["goodness"].append([counts, shares, float(stats.chisquare(counts, expected).pvalue)])

out["proportions"] = []
for a, m, b, n in ((8502, 44700, 8279, 45489), (20, 100, 35, 110), (1, 9, 3, 4)):
    z, p = proportions_ztest([a, b], [m, n])
    low, high = confint_proportions_2indep(a, m, b, n, method="wald", compare="diff", alpha=0.05)
    unpooled = (a / m - b / n) / math.sqrt(a / m * (1 - a / m) / m + b / n * (1 - b / n) / n)
    out["proportions"].append([a, m, b, n, float(z), float(p), float(low), float(high), unpooled])


def clickhouse(expression):
    return json.loads(str(chdb.query(f"SELECT tuple({expression}).1 FORMAT JSONCompactEachRow")))[0]


out["sample_size_conversion"] = [
    [p, mde, power, alpha, float(clickhouse(f"minSampleSizeConversion({p}, {mde}, {power}, {alpha}).1"))]
    for p, mde, power, alpha in ((0.25, 0.03, 0.8, 0.05), (0.02, 0.005, 0.9, 0.01))
]
out["sample_size_continuous"] = [
    [mean, sd, mde, power, alpha, float(clickhouse(f"minSampleSizeContinous({mean}, {sd}, {mde}, {power}, {alpha}).1"))]
    for mean, sd, mde, power, alpha in ((112.25, 21.1, 0.03, 0.8, 0.05), (5.0, 40.0, 0.1, 0.95, 0.02))
]

# An experiment with a covariate and a ratio, worked out with NumPy.
n = 60
x = random.gamma(2, 3, 2 * n)
y = 0.8 * x + random.normal(0, 1, 2 * n) + np.repeat([0, 0.5], n)
theta = np.cov(y, x)[0, 1] / np.var(x, ddof=1)
adjusted = y - theta * (x - x.mean())
cuped = stats.ttest_ind(adjusted[n:], adjusted[:n], equal_var=False)
ratios = []
for part in (slice(0, n), slice(n, 2 * n)):
    value = y[part].sum() / x[part].sum()
    ratios.append([float(value), float(np.var(y[part] - value * x[part], ddof=1) / n / x[part].mean() ** 2)])
out["experiment"] = {
    "x": floats(x), "y": floats(y), "units": n, "ratios": ratios,
    "cuped": floats([adjusted[n:].mean() - adjusted[:n].mean(), cuped.statistic, cuped.pvalue, np.var(adjusted[:n], ddof=1)]),
}
# The same interval as the mSPRT's: V (V + τ²) / τ² (2 ln 1/α + ln((V + τ²) / V)) with τ² = ρ² V N.
out["always_valid"] = []
for estimate, variance, units, alpha, tightest in ((0.3, 0.01, 500, 0.05, 1000), (2.0, 4.0, 50, 0.1, 5000), (0.0, 1e-4, 90000, 0.01, 20000)):
    rho2 = (-2 * math.log(alpha) + math.log(-2 * math.log(alpha) + 1)) / tightest
    tau2 = rho2 * variance * units
    margin = math.sqrt(variance * (variance + tau2) / tau2 * (2 * math.log(1 / alpha) + math.log((variance + tau2) / variance)))
    likelihood = math.sqrt(variance / (variance + tau2)) * math.exp(tau2 * estimate**2 / (2 * variance * (variance + tau2)))
    out["always_valid"].append([estimate, variance, units, alpha, tightest, margin, min(1.0, 1 / likelihood)])

def plain(value):
    return int(value) if isinstance(value, np.integer) else float(value)


print(json.dumps(out, default=plain))
