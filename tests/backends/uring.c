/* Bytes of a socket without a system call for each: uring ask PORT LINE, uring serve PORT LINE.
 *
 * Exit 77 where the kernel refuses io_uring.
 */
#include <arpa/inet.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct io_uring ring;
static char room[65536];

/* Submit what was prepared, and wait for its end. */
static int result(const char *what)
{
	struct io_uring_cqe *cqe;
	int found;

	if (io_uring_submit(&ring) != 1 || io_uring_wait_cqe(&ring, &cqe))
		exit(1);
	found = cqe->res;
	io_uring_cqe_seen(&ring, cqe);
	if (found < 0) {
		fprintf(stderr, "%s: %s\n", what, strerror(-found));
		exit(1);
	}
	return found;
}

static int take(int fd)
{
	io_uring_prep_recv(io_uring_get_sqe(&ring), fd, room, sizeof(room), 0);
	return result("recv");
}

/* A line, and its end. */
static void give(int fd, const char *line)
{
	int size = snprintf(room, sizeof(room), "%s\r\n", line);

	io_uring_prep_send(io_uring_get_sqe(&ring), fd, room, size, 0);
	result("send");
}

static void serve(int fd, const char *answer)
{
	for (;;) {
		int client;

		io_uring_prep_accept(io_uring_get_sqe(&ring), fd, NULL, NULL, 0);
		client = result("accept");
		if (take(client) > 0)
			give(client, answer);
		close(client);
	}
}

int main(int count, char **words)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM, 0), yes = 1;

	if (count < 4 || io_uring_queue_init(8, &ring, 0))
		return 77;
	at.sin_port = htons(atoi(words[2]));
	if (!strcmp(words[1], "serve")) {
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
		if (bind(fd, (void *)&at, sizeof(at)) || listen(fd, 16))
			return 1;
		serve(fd, words[3]);
		return 0;
	}
	io_uring_prep_connect(io_uring_get_sqe(&ring), fd, (void *)&at, sizeof(at));
	result("connect");
	give(fd, words[3]);
	fwrite(room, 1, take(fd), stdout);
	return 0;
}
