"""One contract: points float64[N, P] in, values float64[N, M] out, on any device."""
