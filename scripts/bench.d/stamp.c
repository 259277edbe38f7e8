/* The tiny static action: appends "ID start SECONDS" to the stamp file and exits 0. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

int main(void)
{
    struct timespec now;
    char line[256];
    const char *id = getenv("AGENT_ACTION_ID");
    int file = open(STAMP_FILE, O_WRONLY | O_APPEND | O_CREAT, 0600);

    clock_gettime(CLOCK_REALTIME, &now);
    int size = snprintf(line, sizeof line, "%s start %lld.%06ld\n", id ? id : "?",
                        (long long)now.tv_sec, now.tv_nsec / 1000);
    return write(file, line, size) == size ? 0 : 1;
}
