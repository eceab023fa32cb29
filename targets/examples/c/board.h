/* What the example wants of a board. */
#ifndef BOARD_H
#define BOARD_H

/* Prints a line: a text, then a number. */
void print_number(const char *text, unsigned number);

#endif
