// The functions of the module API that take a variable number of arguments: they make a list of byte strings of them.

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *at;
    size_t len;
} Word;

// In api.rs.
extern const char *gw_string(void *string, size_t *len);
extern int gw_replicate(const Word *words, size_t count);
extern void gw_emit(void *stream, const Word *words, size_t count);
extern void *gw_call(const Word *words, size_t count);
extern void gw_log(const char *line, size_t len);

typedef struct {
    Word *words;
    size_t count;
    // The text of an integer. No format of the module has two.
    char number[32];
} List;

static void append(List *list, const char *at, size_t len) {
    list->words = realloc(list->words, (list->count + 1) * sizeof(Word));
    list->words[list->count++] = (Word){at, len};
}

static void append_string(List *list, void *string) {
    size_t len;
    const char *at = gw_string(string, &len);
    append(list, at, len);
}

static void collect(List *list, const char *command, const char *format, va_list rest) {
    memset(list, 0, sizeof(*list));
    append(list, command, strlen(command));
    for (; *format; format++) {
        if (*format == 's') {
            append_string(list, va_arg(rest, void *));
        } else if (*format == 'c') {
            const char *text = va_arg(rest, const char *);
            append(list, text, strlen(text));
        } else if (*format == 'b') {
            const char *at = va_arg(rest, const char *);
            size_t len = va_arg(rest, size_t);
            append(list, at, len);
        } else if (*format == 'l') {
            int len = snprintf(list->number, sizeof(list->number), "%lld", va_arg(rest, long long));
            append(list, list->number, (size_t)len);
        } else if (*format == 'v') {
            void **strings = va_arg(rest, void **);
            size_t count = va_arg(rest, size_t);
            for (size_t index = 0; index < count; index++) append_string(list, strings[index]);
        } else {
            abort();
        }
    }
}

int gw_api_replicate(void *context, const char *command, const char *format, ...) {
    (void)context;
    List list;
    va_list rest;
    va_start(rest, format);
    collect(&list, command, format, rest);
    va_end(rest);
    int status = gw_replicate(list.words, list.count);
    free(list.words);
    return status;
}

void gw_api_emit_aof(void *stream, const char *command, const char *format, ...) {
    List list;
    va_list rest;
    va_start(rest, format);
    collect(&list, command, format, rest);
    va_end(rest);
    gw_emit(stream, list.words, list.count);
    free(list.words);
}

void *gw_api_call(void *context, const char *command, const char *format, ...) {
    (void)context;
    List list;
    va_list rest;
    va_start(rest, format);
    collect(&list, command, format, rest);
    va_end(rest);
    void *reply = gw_call(list.words, list.count);
    free(list.words);
    return reply;
}

void gw_api_log(void *context, const char *level, const char *format, ...) {
    (void)context;
    (void)level;
    char line[2048];
    va_list rest;
    va_start(rest, format);
    int len = vsnprintf(line, sizeof(line), format, rest);
    va_end(rest);
    if (len > 0) gw_log(line, (size_t)len < sizeof(line) ? (size_t)len : sizeof(line) - 1);
}
