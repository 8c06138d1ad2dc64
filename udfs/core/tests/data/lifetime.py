"""Writes lifetime.json: BG/NBD and Gamma-Gamma fitted by SciPy to simulated customers, for the tests of the kernel.

    pip install numpy scipy
    python lifetime.py > lifetime.json
"""

import json
import sys

import numpy as np
from scipy.optimize import minimize
from scipy.special import betaln, gammaln, hyp2f1

random = np.random.default_rng(7)

customers = []
for _ in range(500):
    rate, dropout = random.gamma(0.8, 1 / 6), random.beta(0.9, 2.5)
    age = round(random.uniform(20, 60), 2)
    time, frequency, recency = 0.0, 0, 0.0
    while True:
        time += random.exponential(1 / rate)
        if time > age:
            break
        frequency, recency = frequency + 1, round(time, 2)
        if random.random() < dropout:
            break
    scale = random.gamma(4, 1 / 15)
    mean = round(random.gamma(6 * frequency, 1 / scale) / frequency, 2) if frequency else 0.0
    customers.append([frequency, recency, age, mean])

x, recency, age, mean = np.array(customers).T


def bgnbd(log):
    r, alpha, a, b = np.exp(log)
    common = gammaln(r + x) - gammaln(r) + r * np.log(alpha) + betaln(a, b + x) - betaln(a, b)
    alive = -(r + x) * np.log(alpha + age)
    gone = np.where(x > 0, np.log(a) - np.log(np.maximum(b + x, 1.000001) - 1) - (r + x) * np.log(alpha + recency), -np.inf)
    return -np.sum(common + np.logaddexp(alive, gone))


def gamma_gamma(log):
    p, q, v = np.exp(log)
    n, m = x[x > 0], mean[x > 0]
    return -np.sum(-betaln(p * n, q) + q * np.log(v) + (p * n - 1) * np.log(m) + p * n * np.log(n) - (p * n + q) * np.log(v + n * m))


def best(cost, start):
    found = np.log(start)
    for _ in range(5):
        found = minimize(cost, found, method="Nelder-Mead", options={"xatol": 1e-12, "fatol": 1e-12, "maxiter": 20000, "maxfev": 20000}).x
    return np.exp(found), -cost(found)


(r, alpha, a, b), likelihood = best(bgnbd, [1, 10, 1, 1])
(p, q, v), spend_likelihood = best(gamma_gamma, [2, 2, 10])


def alive(row):
    x, recency, age, _ = row
    return 1.0 if x == 0 else 1 / (1 + a / (b + x - 1) * ((alpha + age) / (alpha + recency)) ** (r + x))


def purchases(row, t):
    x, _, age, _ = row
    z = t / (alpha + age + t)
    series = hyp2f1(r + x, b + x, a + b + x - 1, z)
    return (a + b + x - 1) / (a - 1) * (1 - ((alpha + age) / (alpha + age + t)) ** (r + x) * series) * alive(row)


rows = customers[:12]
json.dump(
    {
        "customers": customers,
        "bgnbd": [r, alpha, a, b, likelihood],
        "gamma_gamma": [p, q, v, spend_likelihood],
        "scores": [[alive(row), purchases(row, 10.0), p * (v + row[0] * row[3]) / (p * row[0] + q - 1)] for row in rows],
    },
    sys.stdout,
)
