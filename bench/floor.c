/*
 * The C floor: the reads of the nvml backend, on the same ticks, with nothing around them.
 *
 *   cc -O2 -o floor floor.c -ldl && ./floor SECONDS [FAST FULL SLOW]
 *
 * Prints one JSON object: GPUs, seconds, CPU seconds, and how often each tick came. What a board
 * does not support is asked for once, before the clock starts, as the backend does. Prototypes are
 * our own, so that neither the CUDA toolkit nor nvml.h is needed. MIG is not read here.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, FUNCTION_NOT_FOUND = 13 };
enum { MAX_GPUS = 64, MAX_PROCESSES = 1024, MAX_LINKS = 36, MAX_FIELDS = 512, MAX_METRICS = 512 };

typedef void *Device;

typedef struct {
    unsigned version;
    uint64_t total, reserved, free, used;
} Memory;

typedef struct {
    unsigned pid;
    uint64_t memory;
    unsigned gpu_instance, compute_instance;
} Process;

typedef struct {
    uint64_t timestamp, value;
} Sample;

typedef struct {
    uint32_t id, scope;
    int64_t timestamp, latency;
    int type, code;
    uint64_t value;
} Field;

typedef struct {
    unsigned id;
    int code;
    double value;
    const char *names[3];
} Metric;

typedef struct {
    unsigned version, count;
    void *before, *after;
    Metric metrics[MAX_METRICS];
} Metrics;

typedef struct {
    unsigned version, sensor;
    int celsius;
} Temperature;

typedef struct {
    unsigned version;
    int celsius;
} Margin;

typedef struct {
    unsigned version, supported;
} Support;

typedef struct {
    Field values[MAX_FIELDS];
    int count;
} Batch;

/* Each read of a GPU has a slot, which says whether it is supported. */
enum { SLOTS = 128 };

typedef struct {
    Device device;
    bool off[SLOTS];
    uint64_t last_sample;
    unsigned sample_count;
    Sample *samples;
    void *gpm_before, *gpm_after;
    Metrics metrics;
    Batch temperature, counters, links, link_errors;
    unsigned link_count;
} Gpu;

static void *library;
static Gpu gpus[MAX_GPUS];
static Process processes[MAX_PROCESSES];

static void *symbol(const char *name) { return dlsym(library, name); }

/* Call NAME with prototype TYPE; a function that the driver lacks is one that is not found. */
#define CALL(type, name, ...)                                                                     \
    __extension__({                                                                               \
        static int (*function) type;                                                              \
        static bool looked_up;                                                                    \
        if (!looked_up) {                                                                         \
            *(void **)&function = symbol(name);                                                   \
            looked_up = true;                                                                     \
        }                                                                                         \
        function ? function(__VA_ARGS__) : FUNCTION_NOT_FOUND;                                    \
    })

/* Ask in a slot of its own, until the answer is "not supported". */
#define ASK(gpu, slot, call)                                                                      \
    do {                                                                                          \
        if (!(gpu)->off[slot]) {                                                                  \
            int code = (call);                                                                    \
            (gpu)->off[slot] = code == NOT_SUPPORTED || code == FUNCTION_NOT_FOUND;               \
        }                                                                                         \
    } while (0)

static void die(const char *what, int code)
{
    fprintf(stderr, "floor: %s: error %d\n", what, code);
    exit(1);
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static double cpu_seconds(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

#define PROCESSES(name)                                                                           \
    CALL((Device, unsigned *, Process *), name, gpu->device, (count = MAX_PROCESSES, &count),     \
         processes)

static void fast(Gpu *gpu)
{
    unsigned count;
    Memory memory = {.version = (unsigned)sizeof(Memory) | 2u << 24};
    ASK(gpu, 0, CALL((Device, Memory *), "nvmlDeviceGetMemoryInfo_v2", gpu->device, &memory));
    ASK(gpu, 1, PROCESSES("nvmlDeviceGetComputeRunningProcesses_v3"));
    ASK(gpu, 2, PROCESSES("nvmlDeviceGetGraphicsRunningProcesses_v3"));
    ASK(gpu, 3, PROCESSES("nvmlDeviceGetMPSComputeRunningProcesses_v3"));
}

static int get_samples(Gpu *gpu)
{
    unsigned type, count = gpu->samples ? gpu->sample_count : 0;
    int code = CALL((Device, unsigned, uint64_t, unsigned *, unsigned *, Sample *),
                    "nvmlDeviceGetSamples", gpu->device, 1, gpu->last_sample, &type, &count,
                    gpu->samples);
    if (code != SUCCESS)
        return code;
    if (!gpu->samples) {
        gpu->sample_count = count;
        gpu->samples = calloc(count ? count : 1, sizeof *gpu->samples);
        return get_samples(gpu);
    }
    for (unsigned i = 0; i < count; i++)
        if (gpu->samples[i].timestamp > gpu->last_sample)
            gpu->last_sample = gpu->samples[i].timestamp;
    return code;
}

static int get_fields(Gpu *gpu, Batch *batch)
{
    if (batch->count == 0)
        return SUCCESS;
    int code = CALL((Device, int, Field *), "nvmlDeviceGetFieldValues", gpu->device, batch->count,
                    batch->values);
    int kept = 0;
    for (int i = 0; code == SUCCESS && i < batch->count; i++)
        if (batch->values[i].code != NOT_SUPPORTED &&
            batch->values[i].code != INVALID_ARGUMENT)
            batch->values[kept++] = batch->values[i];
    if (code == SUCCESS)
        batch->count = kept;
    return code;
}

static int activity(Gpu *gpu)
{
    static const unsigned ids[] = {1, 2, 3, 10, 5, 13, 12, 11, 4, 21, 20};
    const unsigned count = sizeof ids / sizeof *ids;
    void *taken = gpu->gpm_before;
    if (!taken) {
        int code = CALL((void **), "nvmlGpmSampleAlloc", &taken);
        if (code != SUCCESS)
            return code;
        gpu->gpm_before = taken;
    }
    int code = CALL((Device, void *), "nvmlGpmSampleGet", gpu->device, taken);
    if (code != SUCCESS)
        return code;
    void *before = gpu->gpm_after;
    gpu->gpm_after = taken;
    gpu->gpm_before = before;
    if (!before)
        return SUCCESS;
    gpu->metrics.version = 1;
    gpu->metrics.count = count;
    gpu->metrics.before = before;
    gpu->metrics.after = taken;
    for (unsigned i = 0; i < count; i++)
        gpu->metrics.metrics[i].id = ids[i];
    return CALL((Metrics *), "nvmlGpmMetricsGet", &gpu->metrics);
}

#define ONE(name) CALL((Device, unsigned *), name, gpu->device, &value)
#define TWO(name) CALL((Device, unsigned *, unsigned *), name, gpu->device, &value, &other)

static void full(Gpu *gpu)
{
    unsigned value, other, pair[2];
    uint64_t mask;
    Temperature temperature = {.version = (unsigned)sizeof(Temperature) | 1u << 24};

    ASK(gpu, 10, TWO("nvmlDeviceGetMigMode"));
    ASK(gpu, 11, get_samples(gpu));
    ASK(gpu, 12, activity(gpu));
    ASK(gpu, 13, CALL((Device, unsigned *), "nvmlDeviceGetUtilizationRates", gpu->device, pair));
    ASK(gpu, 14, TWO("nvmlDeviceGetEncoderUtilization"));
    ASK(gpu, 15, TWO("nvmlDeviceGetDecoderUtilization"));
    ASK(gpu, 16, TWO("nvmlDeviceGetJpgUtilization"));
    ASK(gpu, 17, TWO("nvmlDeviceGetOfaUtilization"));
    for (unsigned clock = 0; clock < 4; clock++)
        ASK(gpu, 20 + clock,
            CALL((Device, unsigned, unsigned *), "nvmlDeviceGetClockInfo", gpu->device, clock,
                 &value));
    ASK(gpu, 24, ONE("nvmlDeviceGetPowerUsage"));
    ASK(gpu, 25,
        CALL((Device, Temperature *), "nvmlDeviceGetTemperatureV", gpu->device, &temperature));
    ASK(gpu, 26, get_fields(gpu, &gpu->temperature));
    ASK(gpu, 27,
        CALL((Device, unsigned, unsigned *), "nvmlDeviceGetFanSpeed_v2", gpu->device, 0, &value));
    ASK(gpu, 28,
        CALL((Device, uint64_t *), "nvmlDeviceGetCurrentClocksEventReasons", gpu->device, &mask));
    ASK(gpu, 29, ONE("nvmlDeviceGetPerformanceState"));
}

static void slow(Gpu *gpu)
{
    unsigned value, rows[4], histogram[5];
    uint64_t count;
    Margin margin = {.version = (unsigned)sizeof(Margin) | 1u << 24};

    ASK(gpu, 40, get_fields(gpu, &gpu->counters));
    ASK(gpu, 41, get_fields(gpu, &gpu->links));
    for (unsigned link = 0; link < gpu->link_count; link++)
        ASK(gpu, 80 + link,
            CALL((Device, unsigned, unsigned *), "nvmlDeviceGetNvLinkState", gpu->device, link,
                 &value));
    ASK(gpu, 42, get_fields(gpu, &gpu->link_errors));
    ASK(gpu, 43,
        CALL((Device, unsigned *, unsigned *, unsigned *, unsigned *), "nvmlDeviceGetRemappedRows",
             gpu->device, &rows[0], &rows[1], &rows[2], &rows[3]));
    ASK(gpu, 44,
        CALL((Device, unsigned *), "nvmlDeviceGetRowRemapperHistogram", gpu->device, histogram));
    ASK(gpu, 45,
        CALL((Device, Margin *), "nvmlDeviceGetMarginTemperature", gpu->device, &margin));
    ASK(gpu, 46,
        CALL((Device, uint64_t *), "nvmlDeviceGetTotalEnergyConsumption", gpu->device, &count));
    ASK(gpu, 47, ONE("nvmlDeviceGetEnforcedPowerLimit"));
    ASK(gpu, 48, ONE("nvmlDeviceGetPcieReplayCounter"));
    ASK(gpu, 49, ONE("nvmlDeviceGetCurrPcieLinkGeneration"));
    ASK(gpu, 50, ONE("nvmlDeviceGetCurrPcieLinkWidth"));
    for (unsigned severity = 0; severity < 2; severity++)
        for (unsigned location = 0; location < 8; location++)
            ASK(gpu, 52 + severity * 8 + location,
                CALL((Device, unsigned, unsigned, unsigned, uint64_t *),
                     "nvmlDeviceGetMemoryErrorCounter", gpu->device, severity, 1, location,
                     &count));
}

static void add(Batch *batch, unsigned id, unsigned scope)
{
    batch->values[batch->count++] = (Field){.id = id, .scope = scope};
}

static void prepare(Gpu *gpu)
{
    static const unsigned counters[] = {74, 76, 269, 270, 271, 75, 77, 79, 29, 30, 31, 230};
    static const unsigned totals[] = {52, 59, 38, 45, 160};
    static const unsigned per_link[] = {161, 162, 163, 206, 207, 208, 209, 210, 211, 212, 214};
    Support support = {.version = 1};
    Field links = {.id = 91};

    int code = CALL((Device, Support *), "nvmlGpmQueryDeviceSupport", gpu->device, &support);
    gpu->off[12] = code != SUCCESS || !support.supported;
    add(&gpu->temperature, 82, 0);
    for (size_t i = 0; i < sizeof counters / sizeof *counters; i++)
        add(&gpu->counters, counters[i], 0);
    code = CALL((Device, int, Field *), "nvmlDeviceGetFieldValues", gpu->device, 1, &links);
    add(&gpu->links, 91, 0);
    add(&gpu->links, 138, UINT32_MAX);
    add(&gpu->links, 139, UINT32_MAX);
    for (size_t i = 0; i < sizeof totals / sizeof *totals; i++)
        add(&gpu->links, totals[i], 0);
    if (code == SUCCESS && links.code == SUCCESS && (links.value & UINT32_MAX) <= MAX_LINKS)
        gpu->link_count = (unsigned)(links.value & UINT32_MAX);
    for (size_t i = 0; i < sizeof per_link / sizeof *per_link; i++)
        for (unsigned link = 0; link < gpu->link_count; link++)
            add(&gpu->link_errors, per_link[i], link);
}

int main(int argc, char **argv)
{
    const double seconds = argc > 1 ? atof(argv[1]) : 0;
    const double every[] = {argc > 4 ? atof(argv[2]) : 1, argc > 4 ? atof(argv[3]) : 5,
                            argc > 4 ? atof(argv[4]) : 30};
    void (*const reads[])(Gpu *) = {fast, full, slow};
    double due[3];
    unsigned long ticks[3] = {0, 0, 0};
    unsigned count = 0;

    if (seconds <= 0) {
        fprintf(stderr, "usage: floor SECONDS [FAST FULL SLOW]\n");
        return 2;
    }
    library = dlopen("libnvidia-ml.so.1", RTLD_NOW);
    if (!library) {
        fprintf(stderr, "floor: %s\n", dlerror());
        return 1;
    }
    int code = CALL((void), "nvmlInit_v2");
    if (code != SUCCESS)
        die("nvmlInit_v2", code);
    code = CALL((unsigned *), "nvmlDeviceGetCount_v2", &count);
    if (code != SUCCESS || count == 0 || count > MAX_GPUS)
        die("nvmlDeviceGetCount_v2", code);
    for (unsigned i = 0; i < count; i++) {
        code = CALL((unsigned, Device *), "nvmlDeviceGetHandleByIndex_v2", i, &gpus[i].device);
        if (code != SUCCESS)
            die("nvmlDeviceGetHandleByIndex_v2", code);
        prepare(&gpus[i]);
        for (int tick = 0; tick < 3; tick++)
            reads[tick](&gpus[i]);
    }

    const double start = now(), cpu = cpu_seconds();
    for (int tick = 0; tick < 3; tick++)
        due[tick] = start;
    for (double time = start; time < start + seconds; time = now()) {
        double next = start + seconds;
        for (int tick = 0; tick < 3; tick++) {
            if (due[tick] <= time) {
                for (unsigned i = 0; i < count; i++)
                    reads[tick](&gpus[i]);
                ticks[tick]++;
                due[tick] += every[tick];
            }
            if (due[tick] < next)
                next = due[tick];
        }
        const double rest = next - now();
        if (rest > 0) {
            const struct timespec pause = {(time_t)rest,
                                           (long)((rest - (double)(time_t)rest) * 1e9)};
            nanosleep(&pause, NULL);
        }
    }
    printf("{\"gpus\": %u, \"seconds\": %.3f, \"cpu_seconds\": %.6f, "
           "\"ticks\": {\"fast\": %lu, \"full\": %lu, \"slow\": %lu}}\n",
           count, now() - start, cpu_seconds() - cpu, ticks[0], ticks[1], ticks[2]);
    return CALL((void), "nvmlShutdown");
}
