/* The four weights of n points, as a careful user would write them in C: the peak's closed form
   min exp(q ln q / (1 - q)), q = min / max, and its limit where that is nearly 0/0. Near there it
   loses digits, which log1p would keep. */
#include <math.h>

#define KERNEL(NAME, REAL, LOG, EXP, NEAR)                                              \
    static inline REAL NAME##_peak(REAL a, REAL b)                                      \
    {                                                                                   \
        REAL low = a < b ? a : b, high = a < b ? b : a, gap = (high - low) / high;      \
        REAL power = gap < NEAR ? gap / 2 - 1 : (1 - gap) * LOG(low / high) / gap;      \
        return low * EXP(power);                                                        \
    }                                                                                   \
    void NAME(long n, const REAL *te, const REAL *ti, const REAL *tx, const REAL *tn,   \
              const REAL *charge, REAL *out)                                            \
    {                                                                                   \
        _Pragma("omp parallel for")                                                     \
        for (long i = 0; i < n; i++) {                                                  \
            out[4 * i] = charge[0] / NAME##_peak(te[i], tx[i]);                         \
            out[4 * i + 1] = charge[1] / NAME##_peak(te[i], tn[i]);                     \
            out[4 * i + 2] = charge[2] / NAME##_peak(ti[i], tx[i]);                     \
            out[4 * i + 3] = charge[3] / NAME##_peak(ti[i], tn[i]);                     \
        }                                                                               \
    }

KERNEL(weights_float64, double, log, exp, 1e-5)
KERNEL(weights_float32, float, logf, expf, 1e-3f)
