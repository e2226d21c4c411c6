#define _GNU_SOURCE
#include "script.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

struct rule {
    char function[80], verb[16], argument[300];
    int board; /* NOBODY: all */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct script script;
static struct rule rules[512];
static int rule_count;
static struct stat seen;

static void nap(long milliseconds)
{
    struct timespec time = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    nanosleep(&time, NULL);
}

static void parse_boards(char *words)
{
    char *rest = NULL;
    script.board_count = 0;
    for (char *word = strtok_r(words, " \n", &rest); word; word = strtok_r(NULL, " \n", &rest))
        if (script.board_count < MOST_BOARDS)
            script.boards[script.board_count++] = atoi(word);
}

static void parse(char *line)
{
    int board, percent;
    unsigned pid;
    unsigned long long number, sequence;
    char who[16];
    struct rule rule = {.argument = ""};

    if (!strncmp(line, "boards", 6))
        parse_boards(line + 6);
    else if (sscanf(line, "lost %d", &board) == 1)
        script.lost[board] = 1;
    else if (sscanf(line, "mig %d", &board) == 1)
        script.mig[board] = 1;
    else if (sscanf(line, "busy %d %d", &board, &percent) == 2)
        script.busy[board] = percent;
    else if (sscanf(line, "process %d %u %llu", &board, &pid, &number) == 3)
        script.processes[script.process_count++] = (struct process){board, pid, number};
    else if (sscanf(line, "xid %d %llu %llu", &board, &sequence, &number) == 3)
        script.xids[script.xid_count++] = (struct xid){board, sequence, number};
    else if (sscanf(line, "%79s %15s %15s %299s", rule.function, who, rule.verb, rule.argument) >= 3) {
        rule.board = *who == '*' ? NOBODY : atoi(who);
        rules[rule_count++] = rule;
    }
}

/* Call with the lock held. */
static void read_again(void)
{
    const char *path = getenv("SCRIPTED_NVML");
    struct stat now;
    char line[512];
    FILE *file;

    if (!path || stat(path, &now) || !(file = fopen(path, "re")))
        return;
    if (now.st_ino != seen.st_ino || now.st_size != seen.st_size
        || now.st_mtim.tv_nsec != seen.st_mtim.tv_nsec || now.st_mtim.tv_sec != seen.st_mtim.tv_sec) {
        seen = now;
        memset(&script, 0, sizeof script);
        rule_count = 0;
        while (fgets(line, sizeof line, file))
            parse(line);
    }
    fclose(file);
}

void script_copy(struct script *into)
{
    pthread_mutex_lock(&lock);
    read_again();
    *into = script;
    pthread_mutex_unlock(&lock);
}

/* Whether a rule for "f" or for "f.field" is meant by "f.field". */
static int means(const char *rule, const char *function)
{
    size_t length = strlen(rule);
    if (!strcmp(rule, "*"))
        return 1;
    return !strncmp(rule, function, length) && (!function[length] || function[length] == '.');
}

/* Return whether there is such a rule, and copy it. The last one counts. */
static int find(const char *function, int board, const char *verb, struct rule *into)
{
    int found = 0;
    pthread_mutex_lock(&lock);
    read_again();
    for (int i = 0; i < rule_count; i++)
        if (means(rules[i].function, function) && !strcmp(rules[i].verb, verb)
            && (rules[i].board == NOBODY || rules[i].board == board)) {
            *into = rules[i];
            found = 1;
        }
    pthread_mutex_unlock(&lock);
    return found;
}

int script_enter(const char *function, int board)
{
    struct rule rule;

    if (find(function, board, "crash", &rule))
        abort();
    while (find(function, board, "hang", &rule))
        nap(20);
    if (find(function, board, "delay", &rule))
        nap(atol(rule.argument));
    return find(function, board, "code", &rule) ? atoi(rule.argument) : 0;
}

unsigned long long script_number(const char *function, int board, unsigned long long otherwise)
{
    struct rule rule;
    if (!find(function, board, "value", &rule))
        return otherwise;
    return *rule.argument == '-' ? (unsigned long long)strtoll(rule.argument, NULL, 10)
                                 : strtoull(rule.argument, NULL, 10);
}

double script_real(const char *function, int board, double otherwise)
{
    struct rule rule;
    return find(function, board, "value", &rule) ? strtod(rule.argument, NULL) : otherwise;
}

void script_text(const char *function, int board, char *into, unsigned room, const char *otherwise)
{
    struct rule rule;
    if (!find(function, board, "text", &rule)) {
        snprintf(into, room, "%s", otherwise);
        return;
    }
    unsigned length = 0, byte;
    for (const char *hex = rule.argument; length + 1 < room && sscanf(hex, "%2x", &byte) == 1; hex += 2)
        into[length++] = (char)byte;
    into[length] = 0;
}
