/* The smallest test framework that prints what was expected. */
#ifndef CORRAL_TESTS_CHECK_H
#define CORRAL_TESTS_CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: %s: expected %s\n", __FILE__, __LINE__, __func__, #condition);                     \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

#define CHECK_INT(expected, actual)                                                                                    \
    do {                                                                                                               \
        long long e_ = (long long)(expected), a_ = (long long)(actual);                                                \
        if (e_ != a_) {                                                                                                \
            fprintf(stderr, "%s:%d: %s: %s: expected %lld, got %lld\n", __FILE__, __LINE__, __func__, #actual, e_, a_); \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

#define CHECK_TEXT(expected, actual)                                                                                   \
    do {                                                                                                               \
        const char *e_ = (expected), *a_ = (actual);                                                                   \
        if (strcmp(e_, a_) != 0) {                                                                                     \
            fprintf(stderr, "%s:%d: %s: expected '%s', got '%s'\n", __FILE__, __LINE__, __func__, e_, a_);             \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

#endif
