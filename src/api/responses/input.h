/* Items of the Responses API: what clients send as "input", and what the store keeps of a conversation. Pure. */
#ifndef API_RESPONSES_INPUT_H
#define API_RESPONSES_INPUT_H

#include "base/json_copy.h"

/* Reads "input", a string or an array of items, into a new array of items in one normal form: every item has an id, a
 * type and a status, every message its content as parts. A refusal names the item by its path ("input[2].content"). */
bool response_items_read(const json_t *input, json_t **ret_items, struct err *err);

/* Writes chat messages of items in normal form. What the model said in one turn (reasoning, text, calls) becomes one
 * message again, also across two arrays: state is carried from call to call, and ended by response_turn_end. */
struct response_turn {
    struct json *out;
    struct buf reasoning, text, calls; /* of the assistant's message that is being gathered */
};

void response_turn_begin(struct response_turn *turn, struct json *out);
void response_turn_items(struct response_turn *turn, const json_t *items);
void response_turn_end(struct response_turn *turn); /* writes what is left, and releases */

#endif
