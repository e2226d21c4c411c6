/* The script that the library plays: a file of lines, read again whenever it has changed.
 *
 *   boards 0 1 2            the boards of the node in the driver's order; a session keeps those that
 *                           it began with, as NVML does
 *   lost 2                  the board has fallen off the bus; only a new session can get it back
 *   mig 1                   the board is divided in two
 *   busy 1 60               how much it works, in percent
 *   process 1 4711 2048     a process on it, and its MiB
 *   xid 1 7 31              event number 7, of which each session hears once: XID 31
 *   FUNCTION BOARD code 15  what a C function answers for a board; * stands for all of them
 *   FUNCTION BOARD value N  a number, or of a struct FUNCTION.field; of a field value field.ID
 *   FUNCTION BOARD text HEX
 *   FUNCTION BOARD hang     until the line is gone
 *   FUNCTION BOARD delay MS
 *   FUNCTION BOARD crash
 */
#ifndef SCRIPT_H
#define SCRIPT_H

#define MOST_BOARDS 64
#define NOBODY (-1)

struct process {
    int board;
    unsigned pid;
    unsigned long long mebibytes;
};

struct xid {
    int board;
    unsigned long long sequence, number;
};

struct script {
    int board_count, boards[MOST_BOARDS];
    int lost[MOST_BOARDS], mig[MOST_BOARDS], busy[MOST_BOARDS];
    int process_count;
    struct process processes[256];
    int xid_count;
    struct xid xids[1024];
};

/* The script as it is now. The caller must not keep the pointer while another call may read it. */
void script_copy(struct script *into);

/* Do what the script says of a function: hang, wait, crash. Return the code that it answers. */
int script_enter(const char *function, int board);

/* The number that the script gives in place of another. A double holds what C's integers can't. */
unsigned long long script_number(const char *function, int board, unsigned long long otherwise);
double script_real(const char *function, int board, double otherwise);
void script_text(const char *function, int board, char *into, unsigned room, const char *otherwise);

#endif
