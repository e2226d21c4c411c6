/* libnvidia-ml for tests: NVML's ABI over boards that a script describes (script.h).
 *
 * Like the real one it shows a session the boards that were there when the session began, and costs
 * a file descriptor at each load.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "script.h"

#define UNINITIALIZED 1
#define INVALID_ARGUMENT 2
#define NOT_SUPPORTED 3
#define NOT_FOUND 6
#define INSUFFICIENT_SIZE 7
#define TIMEOUT 10
#define GPU_IS_LOST 15

#define MIB (1ULL << 20)
#define NONE 0xffffffffU
#define TOTAL (81559 * MIB)
#define SAMPLE_MICROSECONDS 200000ULL
#define XID_EVENT 8ULL

struct device {
    int board, slice; /* 0: the board itself */
};

struct gpm_sample {
    int board;
};

struct event_set {
    int boards[MOST_BOARDS];
};

static struct device devices[MOST_BOARDS][3];
static struct script session; /* as it was when the session began */
static int users, lost[MOST_BOARDS];
static unsigned long long heard[MOST_BOARDS];

__attribute__((constructor)) static void loaded(void)
{
    eventfd(0, EFD_CLOEXEC); /* the driver's library never closes it either */
    for (int board = 0; board < MOST_BOARDS; board++)
        for (int slice = 0; slice < 3; slice++)
            devices[board][slice] = (struct device){board, slice};
}

static unsigned long long microseconds(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * 1000000ULL + now.tv_nsec / 1000;
}

static struct script *now(void)
{
    static _Thread_local struct script copy;
    script_copy(&copy);
    return &copy;
}

static int enter_driver(const char *function)
{
    int code = script_enter(function, NOBODY);
    return code ? code : users ? 0 : UNINITIALIZED;
}

static int enter(const char *function, struct device *device)
{
    int code;
    if (!users)
        return UNINITIALIZED;
    if ((code = script_enter(function, device->board)))
        return code;
    if (now()->lost[device->board])
        lost[device->board] = 1;
    return lost[device->board] ? GPU_IS_LOST : 0;
}

#define ENTER(device)                                                                              \
    do {                                                                                           \
        int code_ = enter(__func__, device);                                                       \
        if (code_)                                                                                 \
            return code_;                                                                          \
    } while (0)

#define ENTER_DRIVER()                                                                             \
    do {                                                                                           \
        int code_ = enter_driver(__func__);                                                        \
        if (code_)                                                                                 \
            return code_;                                                                          \
    } while (0)

static unsigned long long member(const char *function, const char *name, int board,
                                 unsigned long long otherwise)
{
    char key[120];
    snprintf(key, sizeof key, "%s.%s", function, name);
    return script_number(key, board, otherwise);
}

#define MEMBER(name, otherwise) member(__func__, name, device->board, otherwise)

/* Functions that give one number. */
#define NUMBER(function, type, otherwise)                                                          \
    int function(struct device *device, type *out)                                                 \
    {                                                                                              \
        ENTER(device);                                                                             \
        *out = (type)script_number(#function, device->board, otherwise);                          \
        return 0;                                                                                  \
    }

NUMBER(nvmlDeviceGetMinorNumber, unsigned, device->board)
NUMBER(nvmlDeviceGetArchitecture, unsigned, 9)
NUMBER(nvmlDeviceGetNumGpuCores, unsigned, 16896)
NUMBER(nvmlDeviceGetMaxMigDeviceCount, unsigned, 7)
NUMBER(nvmlDeviceGetMaxPcieLinkGeneration, unsigned, 5)
NUMBER(nvmlDeviceGetMaxPcieLinkWidth, unsigned, 16)
NUMBER(nvmlDeviceGetCurrPcieLinkGeneration, unsigned, 5)
NUMBER(nvmlDeviceGetCurrPcieLinkWidth, unsigned, 16)
NUMBER(nvmlDeviceGetNumFans, unsigned, 1)
NUMBER(nvmlDeviceGetPowerUsage, unsigned, 432000)
NUMBER(nvmlDeviceGetEnforcedPowerLimit, unsigned, 700000)
NUMBER(nvmlDeviceGetPerformanceState, unsigned, 0)
NUMBER(nvmlDeviceGetPcieReplayCounter, unsigned, 3)
NUMBER(nvmlDeviceGetSupportedClocksEventReasons, unsigned long long, 0x1ff)
NUMBER(nvmlDeviceGetCurrentClocksEventReasons, unsigned long long, 4)
NUMBER(nvmlDeviceGetSupportedEventTypes, unsigned long long, 0xff9f)
NUMBER(nvmlDeviceGetTotalEnergyConsumption, unsigned long long,
       100000000 + microseconds(CLOCK_MONOTONIC) / 1000 * 432)
NUMBER(nvmlDeviceGetAccountingMode, unsigned, 0)
NUMBER(nvmlDeviceGetGpuInstanceId, unsigned, device->slice)
NUMBER(nvmlDeviceGetComputeInstanceId, unsigned, 0)

/* Functions that give one number of something. */
#define NUMBER_OF(function, otherwise)                                                             \
    int function(struct device *device, unsigned which, unsigned *out)                             \
    {                                                                                              \
        (void)which;                                                                               \
        ENTER(device);                                                                             \
        *out = (unsigned)script_number(#function, device->board, otherwise);                      \
        return 0;                                                                                  \
    }

NUMBER_OF(nvmlDeviceGetMaxClockInfo, 1980)
NUMBER_OF(nvmlDeviceGetClockInfo, 1755)
NUMBER_OF(nvmlDeviceGetTemperatureThreshold, 90)
NUMBER_OF(nvmlDeviceGetTemperature, 53)
NUMBER_OF(nvmlDeviceGetFanSpeed_v2, 30)
NUMBER_OF(nvmlDeviceGetNvLinkState, 1)

/* Functions that give a text. */
#define TEXT(function, ...)                                                                        \
    int function(struct device *device, char *into, unsigned room)                                 \
    {                                                                                              \
        char text[96];                                                                             \
        ENTER(device);                                                                             \
        snprintf(text, sizeof text, __VA_ARGS__);                                                  \
        script_text(#function, device->board, into, room, text);                                   \
        return 0;                                                                                  \
    }

TEXT(nvmlDeviceGetName, "NVIDIA H100 80GB HBM3%s", device->slice ? " MIG 3g.40gb" : "")
TEXT(nvmlDeviceGetSerial, "16500000000%02d", device->board)
TEXT(nvmlDeviceGetVbiosVersion, "96.00.A5.00.01")
TEXT(nvmlDeviceGetUUID, "%s-%08d-1111-2222-3333-%012d", device->slice ? "MIG" : "GPU", device->board,
     device->slice)

/* Functions that give a percentage and over how many microseconds it is. */
#define ENGINE(function)                                                                           \
    int function(struct device *device, unsigned *percent, unsigned *period)                       \
    {                                                                                              \
        ENTER(device);                                                                             \
        *percent = (unsigned)script_number(#function, device->board, 7);                           \
        *period = 200000;                                                                          \
        return 0;                                                                                  \
    }

ENGINE(nvmlDeviceGetEncoderUtilization)
ENGINE(nvmlDeviceGetDecoderUtilization)
ENGINE(nvmlDeviceGetJpgUtilization)
ENGINE(nvmlDeviceGetOfaUtilization)

/* The driver. */

int nvmlInitWithFlags(unsigned flags)
{
    int code = script_enter(__func__, NOBODY);
    (void)flags;
    if (!code && !users++) {
        session = *now();
        memcpy(lost, session.lost, sizeof lost);
        memset(heard, 0, sizeof heard);
        for (int i = 0; i < session.xid_count; i++) /* what was before is not heard */
            heard[session.xids[i].board] = session.xids[i].sequence;
    }
    return code;
}

int nvmlShutdown(void)
{
    ENTER_DRIVER();
    users--;
    return 0;
}

const char *nvmlErrorString(int code)
{
    static _Thread_local char text[32];
    snprintf(text, sizeof text, "code %d", code);
    return text;
}

int nvmlSystemGetDriverVersion(char *into, unsigned room)
{
    ENTER_DRIVER();
    script_text(__func__, NOBODY, into, room, "580.159.04");
    return 0;
}

int nvmlSystemGetCudaDriverVersion_v2(int *version)
{
    ENTER_DRIVER();
    *version = (int)script_number(__func__, NOBODY, 13000);
    return 0;
}

int nvmlDeviceGetCount_v2(unsigned *count)
{
    ENTER_DRIVER();
    *count = (unsigned)script_number(__func__, NOBODY, session.board_count);
    return 0;
}

/* Boards */

int nvmlDeviceGetHandleByIndex_v2(unsigned index, struct device **out)
{
    ENTER_DRIVER();
    if (index >= (unsigned)session.board_count)
        return INVALID_ARGUMENT;
    ENTER(&devices[session.boards[index]][0]);
    *out = &devices[session.boards[index]][0];
    return 0;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, struct device **out)
{
    char text[96], own[96];
    ENTER_DRIVER();
    for (int i = 0; i < session.board_count; i++) {
        int board = session.boards[i];
        snprintf(own, sizeof own, "GPU-%08d-1111-2222-3333-%012d", board, 0);
        script_text("nvmlDeviceGetUUID", board, text, sizeof text, own);
        if (!strcmp(text, uuid)) {
            ENTER(&devices[board][0]);
            *out = &devices[board][0];
            return 0;
        }
    }
    return NOT_FOUND;
}

struct pci {
    char legacy[16];
    unsigned domain, bus, device, id, subsystem;
    char bus_id[32];
};

int nvmlDeviceGetPciInfo_v3(struct device *device, struct pci *out)
{
    ENTER(device);
    memset(out, 0, sizeof *out);
    out->domain = (unsigned)MEMBER("domain", 0);
    out->bus = (unsigned)MEMBER("bus", 0x30 + device->board);
    out->device = (unsigned)MEMBER("device", 0);
    return 0;
}

int nvmlDeviceGetCudaComputeCapability(struct device *device, int *major, int *minor)
{
    ENTER(device);
    *major = (int)MEMBER("major", 9);
    *minor = (int)MEMBER("minor", 0);
    return 0;
}

int nvmlDeviceGetMigMode(struct device *device, unsigned *current, unsigned *pending)
{
    ENTER(device);
    *current = (unsigned)MEMBER("current", now()->mig[device->board]);
    *pending = *current;
    return 0;
}

int nvmlDeviceGetMigDeviceHandleByIndex(struct device *device, unsigned index, struct device **out)
{
    ENTER(device);
    if (!now()->mig[device->board] || index >= 2)
        return NOT_FOUND;
    *out = &devices[device->board][index + 1];
    return 0;
}

struct attributes {
    unsigned numbers[8];
    unsigned long long mebibytes;
};

int nvmlDeviceGetAttributes_v2(struct device *device, struct attributes *out)
{
    ENTER(device);
    memset(out, 0, sizeof *out);
    out->numbers[0] = (unsigned)MEMBER("multiprocessorCount", 60);
    out->mebibytes = MEMBER("memorySizeMB", 40448);
    return 0;
}

struct memory {
    unsigned long long total, free, used;
};

struct memory_v2 {
    unsigned version;
    unsigned long long total, reserved, free, used;
};

int nvmlDeviceGetMemoryInfo(struct device *device, struct memory *out)
{
    unsigned long long total = device->slice ? 40448 * MIB : TOTAL;
    ENTER(device);
    out->total = MEMBER("total", total);
    out->used = MEMBER("used", 11603 * MIB);
    out->free = MEMBER("free", total - 11603 * MIB);
    return 0;
}

int nvmlDeviceGetMemoryInfo_v2(struct device *device, struct memory_v2 *out)
{
    unsigned long long total = device->slice ? 40448 * MIB : TOTAL;
    ENTER(device);
    out->total = MEMBER("total", total);
    out->reserved = MEMBER("reserved", 479 * MIB);
    out->used = MEMBER("used", 11124 * MIB);
    out->free = MEMBER("free", total - 11603 * MIB);
    return 0;
}

struct rates {
    unsigned gpu, memory;
};

int nvmlDeviceGetUtilizationRates(struct device *device, struct rates *out)
{
    ENTER(device);
    if (now()->mig[device->board])
        return NOT_SUPPORTED;
    out->gpu = (unsigned)MEMBER("gpu", now()->busy[device->board]);
    out->memory = (unsigned)MEMBER("memory", 41);
    return 0;
}

struct versioned {
    unsigned version;
    int value, more;
};

int nvmlDeviceGetTemperatureV(struct device *device, struct versioned *out)
{
    ENTER(device);
    out->more = (int)MEMBER("temperature", 53);
    return 0;
}

int nvmlDeviceGetMarginTemperature(struct device *device, struct versioned *out)
{
    ENTER(device);
    out->value = (int)MEMBER("marginTemperature", 24);
    return 0;
}

int nvmlDeviceGetMemoryErrorCounter(struct device *device, unsigned severity, unsigned kind,
                                    unsigned location, unsigned long long *out)
{
    (void)severity, (void)kind;
    ENTER(device);
    if (location != 2 && location != 7)
        return NOT_SUPPORTED;
    *out = script_number(__func__, device->board, 1);
    return 0;
}

int nvmlDeviceGetRemappedRows(struct device *device, unsigned *correctable, unsigned *uncorrectable,
                              unsigned *pending, unsigned *failed)
{
    ENTER(device);
    *correctable = (unsigned)MEMBER("correctable", 1);
    *uncorrectable = (unsigned)MEMBER("uncorrectable", 0);
    *pending = (unsigned)MEMBER("pending", 0);
    *failed = (unsigned)MEMBER("failed", 0);
    return 0;
}

int nvmlDeviceGetRowRemapperHistogram(struct device *device, unsigned *out)
{
    ENTER(device);
    static const char *const levels[] = {"max", "high", "partial", "low", "none"};
    for (int level = 0; level < 5; level++)
        out[level] = (unsigned)MEMBER(levels[level], level ? 0 : 2560);
    return 0;
}

#include "lists.h"
