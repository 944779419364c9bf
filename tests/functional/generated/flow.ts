// What a site builder writes against the generated types. It is checked, not run: the Python client plays the same flow.
import createClient from "openapi-fetch";
import type { components, paths } from "./api.d.ts";

type Outcome = components["schemas"]["Outcome"];
type StreamEvents = {
  "leaderboard:update": components["schemas"]["LeaderboardUpdateEvent"];
  "action:result": components["schemas"]["ActionResultEvent"];
  reset: components["schemas"]["ResetEvent"];
};

const client = createClient<paths>({ baseUrl: "https://board.example" });

export async function play(checksum: (key: string, text: string) => string): Promise<Outcome | null> {
  // No address, no cookies, no metadata: what may be left out is left out.
  const account = await client.POST("/v1/auth/register", {
    body: { username: "ada", password: "correct horse battery" },
  });
  if (account.error) {
    const code: components["schemas"]["ErrorCode"] = account.error.error.code;
    if (code === "USERNAME_TAKEN") return null;
    throw new Error(account.error.error.message);
  }
  const headers = { Authorization: `Bearer ${account.data.data.accessToken}` };
  const asked = await client.POST("/v1/actions/request", { headers, body: { actionType: "SOLVE_PROBLEM" } });
  if (!asked.data) return null;
  const { actionId, actionToken, proofKey } = asked.data.data;
  const completed = await client.POST("/v1/actions/complete", {
    headers,
    params: { header: { Prefer: "wait=10" } },
    body: {
      actionId,
      actionToken,
      proof: { completionTime: 1200, checksum: checksum(proofKey, `${actionId}:1200::`) },
    },
  });
  if (completed.response.status !== 200 || !completed.data) return null;
  const outcome = completed.data.data as Outcome;
  const broken: "minimum" | "maximum" | undefined = outcome.reasonDetails?.bound;
  if (broken) console.log(broken, outcome.reasonDetails?.boundMs);
  return outcome;
}

export async function adjust(userId: string): Promise<number | undefined> {
  const { data } = await client.POST("/v1/admin/users/{userId}/adjust", {
    params: { path: { userId }, header: { "Idempotency-Key": crypto.randomUUID() } },
    body: { amount: 5, reason: "a prize" },
  });
  return data?.data.score;
}

export async function top(etag: string): Promise<number | undefined> {
  const { data, response } = await client.GET("/v1/leaderboard", {
    params: { query: { limit: 10 }, header: { "If-None-Match": etag } },
  });
  return response.status === 304 ? undefined : data?.data.leaderboard[0]?.score;
}

export function onResult(text: string): number | null {
  const result: StreamEvents["action:result"] = JSON.parse(text);
  return result.newScore;
}

// What is wrong is noticed.
// @ts-expect-error a password is needed
void client.POST("/v1/auth/register", { body: { username: "ada" } });
// @ts-expect-error no such type of event
type _None = StreamEvents["action:done"];
