/* The second half of nvml.c: lists, samples, field values, GPM and events. */

struct process_info {
    unsigned pid;
    unsigned long long memory;
    unsigned gpu_instance, compute_instance;
};

static int list_processes(const char *function, struct device *device, int fill, unsigned *count,
                          struct process_info *into)
{
    struct script *script;
    unsigned room = *count, found = 0;
    int code = enter(function, device);

    if (code)
        return code;
    script = now();
    for (int i = 0; fill && i < script->process_count; i++) {
        struct process *process = &script->processes[i];
        if (process->board != device->board)
            continue;
        if (found < room && into)
            into[found] = (struct process_info){
                (unsigned)member(function, "pid", device->board, process->pid),
                member(function, "usedGpuMemory", device->board, process->mebibytes * MIB), NONE, NONE};
        found++;
    }
    *count = (unsigned)member(function, "count", device->board, found);
    return *count > room ? INSUFFICIENT_SIZE : 0;
}

#define PROCESSES(function, fill)                                                                  \
    int function(struct device *device, unsigned *count, struct process_info *into)                \
    {                                                                                              \
        return list_processes(#function, device, fill, count, into);                               \
    }

PROCESSES(nvmlDeviceGetComputeRunningProcesses_v2, 1)
PROCESSES(nvmlDeviceGetComputeRunningProcesses_v3, 1)
PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v2, 0)
PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v3, 0)
PROCESSES(nvmlDeviceGetMPSComputeRunningProcesses_v2, 0)
PROCESSES(nvmlDeviceGetMPSComputeRunningProcesses_v3, 0)

struct process_sample {
    unsigned pid;
    unsigned long long time;
    unsigned sm, memory, encoder, decoder;
};

int nvmlDeviceGetProcessUtilization(struct device *device, struct process_sample *into,
                                    unsigned *count, unsigned long long since)
{
    struct script *script;
    unsigned room = *count, found = 0;
    unsigned long long time = microseconds(CLOCK_REALTIME);

    ENTER(device);
    script = now();
    if (script->mig[device->board])
        return NOT_SUPPORTED;
    for (int i = 0; i < script->process_count && time > since; i++) {
        struct process *process = &script->processes[i];
        if (process->board != device->board)
            continue;
        if (found < room && into)
            into[found] = (struct process_sample){
                (unsigned)MEMBER("pid", process->pid), MEMBER("timeStamp", time),
                (unsigned)MEMBER("smUtil", script->busy[device->board]), 0, 0, 0};
        found++;
    }
    if (!found)
        return NOT_FOUND;
    *count = (unsigned)MEMBER("count", found);
    return *count > room ? INSUFFICIENT_SIZE : 0;
}

union value {
    double real;
    unsigned small;
    unsigned long long large;
};

struct sample {
    unsigned long long time;
    union value value;
};

#define SAMPLES 71U

int nvmlDeviceGetSamples(struct device *device, unsigned kind, unsigned long long since,
                         unsigned *type, unsigned *count, struct sample *into)
{
    unsigned long long end, period;
    unsigned busy;

    (void)kind, (void)since;
    ENTER(device);
    period = MEMBER("period", SAMPLE_MICROSECONDS);
    end = microseconds(CLOCK_REALTIME) / period;
    if (now()->mig[device->board])
        return NOT_SUPPORTED;
    busy = (unsigned)now()->busy[device->board];
    *type = (unsigned)MEMBER("type", 1);
    if (!into) {
        *count = (unsigned)MEMBER("count", SAMPLES);
        return 0;
    }
    if (*count < SAMPLES)
        return INSUFFICIENT_SIZE;
    for (unsigned i = 0; i < SAMPLES; i++) {
        into[i].time = MEMBER("timeStamp", (end - SAMPLES + 1 + i) * period);
        into[i].value.large = i + 1 < SAMPLES ? busy : MEMBER("newest", busy);
    }
    *count = SAMPLES;
    return 0;
}

struct field_value {
    unsigned id, scope;
    long long time, latency;
    unsigned type;
    int code;
    union value value;
};

static int field_value(unsigned id, unsigned long long *into)
{
    switch (id) {
    case 82: /* memory temperature */
        *into = 58;
        return 0;
    case 74: case 75: case 76: case 78: case 269: case 270: case 271: /* throttling, in ns */
        *into = microseconds(CLOCK_MONOTONIC) * 10; /* a hundredth of the time */
        return 0;
    case 91: /* NVLinks */
        *into = 2;
        return 0;
    case 138: case 139: /* NVLink KiB */
        *into = microseconds(CLOCK_MONOTONIC);
        return 0;
    case 29: case 30: case 31: case 230: /* retired pages, what is pending, the recovery action */
        *into = 0;
        return 0;
    default:
        return NOT_SUPPORTED;
    }
}

int nvmlDeviceGetFieldValues(struct device *device, int count, struct field_value *values)
{
    ENTER(device);
    for (int i = 0; i < count; i++) {
        char key[40];
        unsigned long long number = 0;
        snprintf(key, sizeof key, "field.%u", values[i].id);
        values[i].type = 3;
        values[i].code = script_enter(key, device->board);
        if (!values[i].code)
            values[i].code = field_value(values[i].id, &number);
        values[i].value.large = script_number(key, device->board, number);
    }
    return 0;
}

/* GPM */

struct support {
    unsigned version, supported;
};

int nvmlGpmQueryDeviceSupport(struct device *device, struct support *out)
{
    ENTER(device);
    out->supported = (unsigned)MEMBER("isSupportedDevice", 1);
    return 0;
}

int nvmlGpmSampleAlloc(struct gpm_sample **out)
{
    ENTER_DRIVER();
    return (*out = calloc(1, sizeof **out)) ? 0 : INSUFFICIENT_SIZE;
}

int nvmlGpmSampleFree(struct gpm_sample *sample)
{
    free(sample);
    return 0;
}

int nvmlGpmSampleGet(struct device *device, struct gpm_sample *sample)
{
    ENTER(device);
    if (now()->mig[device->board])
        return NOT_SUPPORTED;
    sample->board = device->board;
    return 0;
}

int nvmlGpmMigSampleGet(struct device *device, unsigned instance, struct gpm_sample *sample)
{
    (void)instance;
    ENTER(device);
    sample->board = device->board;
    return 0;
}

struct gpm_metric {
    unsigned id;
    int code;
    double value;
    void *names[3];
};

struct gpm_metrics {
    unsigned version, count;
    struct gpm_sample *before, *after;
    struct gpm_metric metrics[];
};

int nvmlGpmMetricsGet(struct gpm_metrics *asked)
{
    int board = asked->after->board;
    int code = script_enter(__func__, board);
    if (code)
        return code;
    for (unsigned i = 0; i < asked->count; i++) {
        asked->metrics[i].code = 0;
        asked->metrics[i].value = script_real(__func__, board, now()->busy[board]);
    }
    return 0;
}

/* Events */

struct event {
    struct device *device;
    unsigned long long type, data;
    unsigned gpu_instance, compute_instance;
};

int nvmlEventSetCreate(struct event_set **out)
{
    ENTER_DRIVER();
    return (*out = calloc(1, sizeof **out)) ? 0 : INSUFFICIENT_SIZE;
}

int nvmlEventSetFree(struct event_set *set)
{
    free(set);
    return 0;
}

int nvmlDeviceRegisterEvents(struct device *device, unsigned long long types, struct event_set *set)
{
    ENTER(device);
    set->boards[device->board] = (types & XID_EVENT) != 0;
    return 0;
}

int nvmlEventSetWait_v2(struct event_set *set, struct event *out, unsigned milliseconds)
{
    unsigned long long end = microseconds(CLOCK_MONOTONIC) + milliseconds * 1000ULL;
    do {
        struct script *script;
        ENTER_DRIVER();
        script = now();
        for (int i = 0; i < script->xid_count; i++) {
            struct xid *xid = &script->xids[i];
            if (!set->boards[xid->board])
                continue;
            ENTER(&devices[xid->board][0]);
            if (xid->sequence > heard[xid->board]) {
                heard[xid->board] = xid->sequence;
                *out = (struct event){&devices[xid->board][0], XID_EVENT, xid->number, NONE, NONE};
                return 0;
            }
        }
        usleep(milliseconds ? 10000 : 0);
    } while (microseconds(CLOCK_MONOTONIC) < end);
    return TIMEOUT;
}
