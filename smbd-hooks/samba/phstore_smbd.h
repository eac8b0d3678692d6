/*
 * phstore: a reply waits until what it acknowledges is durable
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

#ifndef PHSTORE_SMBD_H
#define PHSTORE_SMBD_H

struct smbd_smb2_request;
struct smbXsrv_connection;
struct messaging_context;

/** @brief Call before each element of a request is processed. */
void phstore_smb2_dispatch(struct smbd_smb2_request *req);

/**
 * @brief Call when an element's handle is known, before its work begins.
 * @return an error to answer with
 */
NTSTATUS phstore_smb2_admit(struct smbd_smb2_request *req);

/** @brief The same, when a persistent handle is about to be made. */
NTSTATUS phstore_smb2_admit_open(void);

/** @brief Call when an element has its answer, before it is encrypted. */
void phstore_smb2_answered(struct smbd_smb2_request *req);

/**
 * @brief Call instead of queueing a complete response.
 *
 * @param[in] req   the response to send, signed and encrypted
 * @param[in] orig  the request it answers, in most cases the same
 * @return OK: queue it now. EVENT_PENDING: it was taken over and will be
 *         queued, or its connection ends. Anything else: end the connection
 */
NTSTATUS phstore_smb2_hold(struct smbd_smb2_request *req,
			   const struct smbd_smb2_request *orig);

/** @brief Call before a client's connection asks for smbd-notifyd. */
void phstore_smb2_wait_notifyd(struct messaging_context *msg);

/** @brief smb2_server.c: write out what is in the send queue. */
NTSTATUS phstore_smb2_flush(struct smbXsrv_connection *xconn);

#endif /* PHSTORE_SMBD_H */
