/* Output and exit through a debugger or an emulator; a product writes to its UART instead. */
#ifndef SEMIHOSTING_H
#define SEMIHOSTING_H

#include "board.h"
#include <stdint.h>

enum { SYS_WRITE0 = 0x04, SYS_EXIT_EXTENDED = 0x20, APPLICATION_EXIT = 0x20026 };

/* The one instruction sequence that differs between architectures. */
static uintptr_t semihosting_call(uintptr_t operation, const void *argument);

void print_number(const char *text, unsigned number) {
    char digits[12], *first = digits + sizeof digits;
    *--first = 0;
    *--first = '\n';
    do
        *--first = (char)('0' + number % 10);
    while (number /= 10);
    semihosting_call(SYS_WRITE0, text);
    semihosting_call(SYS_WRITE0, first);
}

static void leave(uintptr_t code) {
    uintptr_t block[2] = {APPLICATION_EXIT, code};
    for (;;)
        semihosting_call(SYS_EXIT_EXTENDED, block);
}

#endif
