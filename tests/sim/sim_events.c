/*
 * phstore: simulator: what is to happen, as a heap
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 */

#include <stdbool.h>
#include <stdlib.h>

#include "sim_events.h"

static struct event *heap;
static size_t heap_len, heap_size;
static uint64_t next_seq;

static bool before(const struct event *a, const struct event *b)
{
	return a->at != b->at ? a->at < b->at : a->seq < b->seq;
}

static void push(struct event ev)
{
	size_t i = heap_len, up;

	if (heap_len == heap_size) {
		heap_size = heap_size * 2 + 1024;
		heap = realloc(heap, heap_size * sizeof(*heap));
		if (heap == NULL) {
			abort();
		}
	}
	heap_len++;
	while (i > 0) {
		up = (i - 1) / 2;
		if (before(&heap[up], &ev)) {
			break;
		}
		heap[i] = heap[up];
		i = up;
	}
	heap[i] = ev;
}

void events_at(uint64_t when, struct event ev)
{
	ev.at = when;
	ev.seq = next_seq++;
	push(ev);
}

uint64_t events_next(void)
{
	return heap_len == 0 ? UINT64_MAX : heap[0].at;
}

struct event events_pop(void)
{
	struct event top = heap[0], last = heap[--heap_len];
	size_t i = 0, c;

	for (c = 1; c < heap_len; c = 2 * i + 1) {
		if (c + 1 < heap_len && before(&heap[c + 1], &heap[c])) {
			c++;
		}
		if (before(&last, &heap[c])) {
			break;
		}
		heap[i] = heap[c];
		i = c;
	}
	heap[i] = last;
	return top;
}

void events_end(void)
{
	free(heap);
	heap = NULL;
	heap_len = 0;
	heap_size = 0;
}
