/* The four weights of n points, as a careful user would write them in C.

   The peak of a PSP is low * exp(q ln q / (1 - q)) with q = low / high, where low and high are the
   smaller and the larger time constant. Where 1 - q is below NEAR this is nearly 0/0, and its limit
   low * exp(gap / 2 - 1) is used. Just above NEAR the formula loses digits, which log1p keeps. */
#include <math.h>

#define KERNEL(NAME, REAL, LOG, EXP, NEAR)                                              \
    static inline REAL NAME##_peak(REAL tau_m, REAL tau_syn)                            \
    {                                                                                   \
        REAL low = tau_m < tau_syn ? tau_m : tau_syn;                                   \
        REAL high = tau_m < tau_syn ? tau_syn : tau_m;                                  \
        REAL gap = (high - low) / high;                                                 \
        REAL power = gap < NEAR ? gap / 2 - 1 : (1 - gap) * LOG(low / high) / gap;      \
        return low * EXP(power);                                                        \
    }                                                                                   \
    void NAME(long n, const REAL *tau_e, const REAL *tau_i, const REAL *tau_ex,         \
              const REAL *tau_in, const REAL *numerator, REAL *weights)                 \
    {                                                                                   \
        _Pragma("omp parallel for")                                                     \
        for (long i = 0; i < n; i++) {                                                  \
            weights[4 * i] = numerator[0] / NAME##_peak(tau_e[i], tau_ex[i]);           \
            weights[4 * i + 1] = numerator[1] / NAME##_peak(tau_e[i], tau_in[i]);       \
            weights[4 * i + 2] = numerator[2] / NAME##_peak(tau_i[i], tau_ex[i]);       \
            weights[4 * i + 3] = numerator[3] / NAME##_peak(tau_i[i], tau_in[i]);       \
        }                                                                               \
    }

KERNEL(weights_float64, double, log, exp, 1e-5)
KERNEL(weights_float32, float, logf, expf, 1e-3f)
