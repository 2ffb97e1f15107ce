// Every provider of Vercel's AI SDK against a running service: node --test clients.mjs
// FACTS in the environment is JSON: the service's address, its model, and what that model knows.

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { createAnthropic } from "@ai-sdk/anthropic";
import { createMistral } from "@ai-sdk/mistral";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import {
  APICallError,
  generateObject,
  generateText,
  jsonSchema,
  Output,
  stepCountIs,
  streamText,
  tool,
} from "ai";
import { z } from "zod";

globalThis.AI_SDK_LOG_WARNINGS = false;

const facts = JSON.parse(process.env.FACTS);
const settings = { baseURL: `${facts.url}/v1`, apiKey: "none" };
const openai = createOpenAI(settings);
const PROVIDERS = {
  chat: openai.chat,
  compatible: createOpenAICompatible({
    ...settings,
    name: "service",
    includeUsage: true,
    supportsStructuredOutputs: true,
  }),
  mistral: createMistral(settings),
  responses: openai.responses,
  messages: createAnthropic(settings),
};
const CAPITAL = z.object({ country: z.string(), capital: z.string() });
const FRANCE = { country: "France", capital: "Paris" };

function tools(of, execute) {
  return Object.fromEntries(
    of.map(({ function: { name, description, parameters } }) => [
      name,
      tool({
        description,
        inputSchema: jsonSchema(parameters),
        execute: (input) => execute(name, input),
      }),
    ]),
  );
}

function withImage(text, url = facts.image) {
  const image = { type: "image", image: url };
  return [{ role: "user", content: [{ type: "text", text }, image] }];
}

for (const [name, provider] of Object.entries(PROVIDERS)) {
  const common = {
    model: provider(facts.model),
    temperature: 0,
    maxOutputTokens: 300,
    maxRetries: 0,
    // By itself this provider has the model call a tool of its own for an output beside tools.
    providerOptions: { anthropic: { structuredOutputMode: "outputFormat" } },
  };

  describe(name, () => {
    test("a text, whole and streamed", async () => {
      const whole = await generateText({ ...common, prompt: "Hello" });
      assert.ok(whole.text);
      assert.equal(whole.finishReason, "stop");
      assert.ok(whole.usage.inputTokens > 0 && whole.usage.outputTokens > 0);
      const streamed = streamText({ ...common, prompt: "Hello" });
      let text = "";
      for await (const piece of streamed.textStream) text += piece;
      assert.equal(text, whole.text);
      assert.equal(await streamed.finishReason, "stop");
      const { outputTokens } = await streamed.usage;
      // Mistral's own API sends the usage of a stream unasked, so its provider does not ask.
      assert.equal(outputTokens, name === "mistral" ? undefined : whole.usage.outputTokens);
    });

    test("a conversation of two turns", async () => {
      const first = [{ role: "user", content: "Hello" }];
      const { response } = await generateText({ ...common, messages: first });
      const messages = [...first, ...response.messages, { role: "user", content: facts.weather }];
      assert.ok((await generateText({ ...common, messages })).text);
    });

    for (const generate of [generateText, streamText]) {
      test(`a loop over two parallel calls by ${generate.name}`, async () => {
        const calls = [];
        const execute = (name, { expression }) => {
          calls.push([name, expression]);
          return facts.results[facts.expressions.indexOf(expression)];
        };
        const result = await generate({
          ...common,
          messages: withImage(facts.equations),
          tools: tools(facts.calculator, execute),
          stopWhen: stepCountIs(3),
        });
        const [first, last, ...more] = await result.steps;
        assert.equal(first.finishReason, "tool-calls");
        assert.deepEqual(
          calls,
          facts.expressions.map((expression) => ["my_calculator", expression]),
        );
        assert.equal(last.finishReason, "stop");
        assert.equal(last.text, facts.answer);
        assert.deepEqual(more, []);
      });
    }

    test("a chosen tool", async () => {
      const { toolCalls } = await generateText({
        ...common,
        prompt: facts.weather,
        tools: tools(facts.tools, () => "98"),
        toolChoice: { type: "tool", toolName: facts.tools[0].function.name },
      });
      assert.deepEqual(
        toolCalls.map((call) => [call.toolName, call.input]),
        [[facts.tools[0].function.name, facts.arguments]],
      );
    });

    test("an object", async () => {
      const { object } = await generateObject({
        ...common,
        prompt: facts.capital,
        schema: CAPITAL,
      });
      assert.deepEqual(object, FRANCE);
    });

    test("an output schema beside tools", async () => {
      const beside = {
        ...common,
        tools: tools(facts.tools, () => "98"),
        output: Output.object({ schema: CAPITAL }),
      };
      const { output } = await generateText({ ...beside, prompt: facts.capital });
      assert.deepEqual(output, FRANCE);
      const { toolCalls } = await generateText({ ...beside, prompt: facts.weather });
      assert.deepEqual(
        toolCalls.map((call) => call.input),
        [facts.arguments],
      );
    });

    test("an image", async () => {
      const { text } = await generateText({ ...common, messages: withImage(facts.question) });
      assert.match(text, new RegExp(facts.color));
    });

    test("errors", async () => {
      // Mistral's provider reads no message in OpenAI's form, and gives the whole body.
      const said = (error) => `${error.message} ${error.responseBody}`;
      const unknown = generateText({ ...common, model: provider("gpt-4"), prompt: "Hello" });
      await assert.rejects(unknown, (error) => {
        assert.ok(APICallError.isInstance(error), error.stack);
        assert.equal(error.statusCode, 404);
        assert.equal(error.isRetryable, false);
        assert.match(said(error), /gpt-4/);
        return true;
      });
      const invalid = { ...common, topP: 5, prompt: "Hello" };
      await assert.rejects(generateText(invalid), (error) => {
        assert.equal(error.statusCode, 400, error.stack);
        assert.match(said(error), /top_p/);
        return true;
      });
      const errors = [];
      await streamText({ ...invalid, onError: ({ error }) => errors.push(error) }).consumeStream();
      assert.deepEqual(
        errors.map((error) => error.statusCode),
        [400],
      );
    });
  });
}
