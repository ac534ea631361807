"""samples.py: statistics of samples, as steer.bench.stats has them."""


def quantile(values, q):
    at = q * (len(values) - 1)
    low = int(at)
    high = min(low + 1, len(values) - 1)
    return values[low] + (at - low) * (values[high] - values[low])


def describe(samples):
    values = sorted(samples)
    return {"n": len(values), "median": quantile(values, 0.5), "q1": quantile(values, 0.25),
            "q3": quantile(values, 0.75), "min": values[0], "samples": samples}
