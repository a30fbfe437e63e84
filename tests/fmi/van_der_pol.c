/* A small FMU of FMI 2.0, co-simulation: the oscillator of van der Pol with an input, and faults that `fault` asks for.

   It steps by RK4 from communication point to communication point, in steps of 5 ms at most. What the standard asks an
   FMU to have and nobody here calls returns an error. */

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define STUB(name) EXPORT int name(void) { return 3; }

enum { X0, X1, MU, SCALE, FAULT, IDLE, FORCE, SEEN, SIZE };
enum { NONE, SEGFAULT, EXIT, HANG, NAN_OUTPUT, PRINT, REFUSE_STEP, KEEP_STATE, CHANCE, REFUSE_VALUE, NO_RESET };

typedef struct { double v[SIZE]; int begun; } Model;

static int instances = 0;

static void start(Model *m) {
    m->v[X0] = 2.0; m->v[X1] = 0.0; m->v[MU] = 1.0; m->v[SCALE] = 1.0;
    m->v[FAULT] = 0.0; m->v[IDLE] = 0.0; m->v[FORCE] = 0.0; m->v[SEEN] = 2.0;
}

static void slope(const Model *m, const double x[2], double dx[2]) {
    dx[0] = x[1];
    dx[1] = m->v[MU] * (1.0 - x[0] * x[0]) * x[1] - x[0] + m->v[FORCE];
}

static void rk4(Model *m, double h) {
    double *x = m->v, k[4][2], y[2];
    slope(m, x, k[0]);
    for (int s = 1; s < 4; s++) {
        double part = s == 3 ? h : 0.5 * h;
        for (int i = 0; i < 2; i++) y[i] = x[i] + part * k[s - 1][i];
        slope(m, y, k[s]);
    }
    for (int i = 0; i < 2; i++) x[i] += h / 6.0 * (k[0][i] + 2.0 * k[1][i] + 2.0 * k[2][i] + k[3][i]);
}

EXPORT const char *fmi2GetTypesPlatform(void) { return "default"; }
EXPORT const char *fmi2GetVersion(void) { return "2.0"; }

EXPORT void *fmi2Instantiate(const char *name, int type, const char *guid, const char *place, const void *callbacks,
                             int visible, int logging) {
    (void)name; (void)type; (void)guid; (void)place; (void)callbacks; (void)visible; (void)logging;
    Model *m = calloc(1, sizeof(Model));
    start(m);
    instances++;
    return m;
}

EXPORT void fmi2FreeInstance(void *c) { free(c); }
EXPORT int fmi2SetDebugLogging(void *c, int on, size_t n, const void *names) {
    (void)c; (void)on; (void)n; (void)names;
    return 0;
}
EXPORT int fmi2SetupExperiment(void *c, int known, double tolerance, double begin, int ends, double end) {
    (void)c; (void)known; (void)tolerance; (void)begin; (void)ends; (void)end;
    return 0;
}
EXPORT int fmi2EnterInitializationMode(void *c) { (void)c; return 0; }
EXPORT int fmi2ExitInitializationMode(void *c) {
    Model *m = c;
    if (m->v[FAULT] == REFUSE_VALUE) return 3;
    m->v[SEEN] = m->v[SCALE] * m->v[X0];
    return 0;
}
EXPORT int fmi2Terminate(void *c) { (void)c; return 0; }
EXPORT int fmi2Reset(void *c) {
    Model *m = c;
    if (m->v[FAULT] == NO_RESET) return 3;
    double x0 = m->v[X0], fault = m->v[FAULT];
    start(m);
    if (fault == KEEP_STATE) m->v[X0] = x0;
    return 0;
}

EXPORT int fmi2GetReal(void *c, const unsigned vr[], size_t n, double value[]) {
    Model *m = c;
    for (size_t i = 0; i < n; i++) value[i] = m->v[vr[i]];
    return 0;
}
EXPORT int fmi2SetReal(void *c, const unsigned vr[], size_t n, const double value[]) {
    Model *m = c;
    for (size_t i = 0; i < n; i++) m->v[vr[i]] = value[i];
    return 0;
}

EXPORT int fmi2DoStep(void *c, double now, double step, int last) {
    (void)last;
    Model *m = c;
    int fault = (int)m->v[FAULT], late = now + step > 4.99;
    if (fault == SEGFAULT && late) raise(SIGSEGV);
    if (fault == EXIT && late) _exit(7);
    if (fault == HANG && late) for (;;) pause();
    if (fault == PRINT) {
        FILE *file = fopen("spilt.txt", "w");
        if (file) fclose(file);
        printf("a step to %g\n", now + step);
        fflush(stdout);
    }
    if (fault == REFUSE_STEP && late) return 3;
    int num = (int)ceil(step / 0.005 - 1e-9);
    for (int k = 0; k < num; k++) rk4(m, step / num);
    m->v[SEEN] = m->v[SCALE] * m->v[X0];
    if (fault == NAN_OUTPUT && late) m->v[SEEN] = m->v[X0] = nan("");
    if (fault == CHANCE) m->v[SEEN] += 1e-3 * (rand() % 1000) + instances;
    return 0;
}

STUB(fmi2GetInteger) STUB(fmi2GetBoolean) STUB(fmi2GetString)
STUB(fmi2SetInteger) STUB(fmi2SetBoolean) STUB(fmi2SetString)
STUB(fmi2GetFMUstate) STUB(fmi2SetFMUstate) STUB(fmi2FreeFMUstate)
STUB(fmi2SerializedFMUstateSize) STUB(fmi2SerializeFMUstate) STUB(fmi2DeSerializeFMUstate)
STUB(fmi2GetDirectionalDerivative) STUB(fmi2SetRealInputDerivatives) STUB(fmi2GetRealOutputDerivatives)
STUB(fmi2CancelStep) STUB(fmi2GetStatus) STUB(fmi2GetRealStatus)
STUB(fmi2GetIntegerStatus) STUB(fmi2GetBooleanStatus) STUB(fmi2GetStringStatus)
