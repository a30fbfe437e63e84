/* Lotka–Volterra with six forward tangents by hand: the log density of lynx–hare and its gradient in z.
 *
 * z holds the logarithms of alpha, beta, gamma, delta, both initial states and both noise scales: the unconstrained
 * space of `models/lynx_hare`, whose priors are on the positive half-line. RK4 and Tsit5 take equal steps, `per_year`
 * of them. `gradient.py` compares value and gradient with ours before it times anything.
 */
#include <math.h>
#include <string.h>

/* loops over stages unroll only where they are inlined */
#define ALWAYS_INLINE static inline __attribute__((always_inline))

enum { P = 6, D = 8, YEARS = 20, STAGES = 6 };

/* One state with its tangents: value at [0], derivatives by theta after it; padded to a whole vector. */
typedef struct { double hare[8], lynx[8]; } Point;

ALWAYS_INLINE void slope(const double *restrict k, const Point *restrict x, Point *restrict f) {
    double h = x->hare[0], l = x->lynx[0];
    double hh = k[0] - k[1] * l, hl = -k[1] * h, lh = k[3] * l, ll = -k[2] + k[3] * h;
    for (int i = 0; i < 8; i++) {
        f->hare[i] = hh * x->hare[i] + hl * x->lynx[i];
        f->lynx[i] = lh * x->hare[i] + ll * x->lynx[i];
    }
    f->hare[0] = hh * h;
    f->lynx[0] = ll * l;
    f->hare[1] += h;
    f->hare[2] -= h * l;
    f->lynx[3] -= l;
    f->lynx[4] += h * l;
}

/* x + step * sum of weight * slope */
ALWAYS_INLINE void combine(int n, const double *weight, double step, const Point *x, const Point *f, Point *to) {
    Point sum = *x;
    for (int s = 0; s < n; s++) {
        double w = step * weight[s];
        for (int i = 0; i < 8; i++) sum.hare[i] += w * f[s].hare[i];
        for (int i = 0; i < 8; i++) sum.lynx[i] += w * f[s].lynx[i];
    }
    *to = sum;
}

static void rk4(const double *k, double step, Point *x) {
    static const double half[3][3] = {{0.5}, {0, 0.5}, {0, 0, 1}};
    static const double weight[4] = {1 / 6.0, 1 / 3.0, 1 / 3.0, 1 / 6.0};
    Point f[4], y;
    slope(k, x, &f[0]);
    for (int s = 0; s < 3; s++) {
        combine(1, &half[s][s], step, x, &f[s], &y);
        slope(k, &y, &f[s + 1]);
    }
    combine(4, weight, step, x, f, x);
}

/* Tsitouras (2011), doi:10.1016/j.camwa.2011.06.002; the fifth-order result without its estimate of the error. */
static void tsit5(const double *k, double step, Point *x) {
    static const double a[STAGES - 1][STAGES - 1] = {
        {0.161},
        {-0.008480655492356989, 0.335480655492357},
        {2.8971530571054935, -6.359448489975075, 4.3622954328695815},
        {5.325864828439257, -11.748883564062828, 7.4955393428898365, -0.09249506636175525},
        {5.86145544294642, -12.92096931784711, 8.159367898576159, -0.071584973281401, -0.028269050394068383},
    };
    static const double b[STAGES] = {0.09646076681806523, 0.01,           0.4798896504144996,
                                     1.379008574103742,   -3.290069515436081, 2.324710524099774};
    Point f[STAGES], y;
    slope(k, x, &f[0]);
    for (int s = 0; s < STAGES - 1; s++) {
        combine(s + 1, a[s], step, x, f, &y);
        slope(k, &y, &f[s + 1]);
    }
    combine(STAGES, b, step, x, f, x);
}

/* Normal prior of exp(z), truncated at zero, with the Jacobian; log-normal prior likewise. */
static double truncated(double z, double mean, double sd, double *gradient) {
    double value = exp(z), r = (value - mean) / sd;
    *gradient += 1.0 - r * value / sd;
    return z - 0.5 * r * r;
}

static double lognormal(double z, double mean, double *gradient) {
    *gradient -= z - mean;
    return -0.5 * (z - mean) * (z - mean);
}

static double likelihood(const double *seen, const double *x, const double *theta, double log_scale, double *gradient,
                         double *of_scale) {
    double scale = exp(log_scale), r = (log(*seen) - log(x[0])) / scale;
    for (int i = 0; i < P; i++) gradient[i] += r / scale * x[i + 1] / x[0] * theta[i];
    *of_scale += r * r - 1.0;
    return -0.5 * r * r - log_scale;
}

/* Log density up to a constant. data: hare and lynx, YEARS + 1 values each; method: 4 for RK4, 5 for Tsit5. */
double log_density(const double *z, const double *data, int method, int per_year, double *gradient) {
    double theta[P], total = 0.0;
    memset(gradient, 0, D * sizeof(double));
    for (int i = 0; i < P; i++) theta[i] = exp(z[i]);
    total += truncated(z[0], 1.0, 0.5, &gradient[0]) + truncated(z[1], 0.05, 0.05, &gradient[1]);
    total += truncated(z[2], 1.0, 0.5, &gradient[2]) + truncated(z[3], 0.05, 0.05, &gradient[3]);
    total += lognormal(z[4], log(10.0), &gradient[4]) + lognormal(z[5], log(10.0), &gradient[5]);
    total += lognormal(z[6], -1.0, &gradient[6]) + lognormal(z[7], -1.0, &gradient[7]);
    Point x = {{theta[4]}, {theta[5]}};
    x.hare[5] = x.lynx[6] = 1.0;
    for (int year = 0; year <= YEARS; year++) {
        for (int step = 0; year > 0 && step < per_year; step++)
            method == 4 ? rk4(theta, 1.0 / per_year, &x) : tsit5(theta, 1.0 / per_year, &x);
        total += likelihood(&data[year], x.hare, theta, z[6], gradient, &gradient[6]);
        total += likelihood(&data[YEARS + 1 + year], x.lynx, theta, z[7], gradient, &gradient[7]);
    }
    return total;
}

/* `count` gradients one after the other, each at a point that the last one moved a little; returns the last value. */
double repeat(double *z, const double *data, int method, int per_year, int count) {
    double gradient[D], value = 0.0;
    for (int n = 0; n < count; n++) {
        value = log_density(z, data, method, per_year, gradient);
        for (int i = 0; i < D; i++) z[i] += 1e-12 * gradient[i];
    }
    return value;
}
