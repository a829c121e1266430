// Executes jobs with the Swift package, and prints the results as JSON, so that tests can compare them with Python:
//
//     pocketdit-check JOBS.json
//
// The bundles' packages are not executed. A stand-in replaces them.
import Foundation
import PocketDiTBundle

struct Job: Decodable {
    let bundle: String
    /// Prompts to tokenize. If there are none, the job is to draw the latents and the image of `prompt`.
    let prompts: [String]?
    let prompt: String?
    let seed: UInt64?
    let steps: Int?
    let loraScale: Float?
    /// Numbers that the decoder returns over and over, if it is not the stand-in.
    let pixels: [String]?
}

/// A stand-in for the packages of a bundle. Each row of an output depends on the same row of all inputs: strongly on
/// the time, and weakly on the latents, so that rounding errors do not grow from step to step.
struct StandIn: PackageRunner {
    let manifest: Manifest
    let pixels: [Float]

    func run(_ package: String, _ inputs: [String: Tensor]) async throws -> [String: Tensor] {
        var outputs: [String: Tensor] = [:]
        for (name, type) in manifest.packages[package]?.outputs ?? [:] {
            let count = type.shape.dropFirst().reduce(1, *)
            var values: [Float] = []
            for row in 0..<type.shape[0] {
                var sum: Double = weight(name)
                for (input, tensor) in inputs { sum += weight(input) * mean(tensor, row) }
                for element in 0..<count { values.append(Float(sin(sum + Double(element % 5)))) }
            }
            if package == "decoder" && !pixels.isEmpty {
                for at in values.indices { values[at] = pixels[at % pixels.count] }
            }
            outputs[name] = Tensor(type.shape, values)
        }
        return outputs
    }

    private func weight(_ name: String) -> Double {
        switch name {
        case "time": return 4
        case "latents": return 0.25
        default:
            let sum: Int = name.utf8.reduce(0) { (sum: Int, byte: UInt8) in sum + Int(byte) }
            return Double(sum % 10 + 1) / 5
        }
    }

    private func mean(_ tensor: Tensor, _ row: Int) -> Double {
        let values = numbers(tensor)
        let size = values.count / tensor.shape[0]
        let start = tensor.shape[0] == 1 ? 0 : row * size
        var sum: Double = 0
        for element in 0..<size { sum += values[start + element] * Double(element % 7 + 1) }
        return sum / Double(size)
    }
}

func numbers(_ tensor: Tensor) -> [Double] {
    tensor.ids.isEmpty ? tensor.floats.map { Double($0) } : tensor.ids.map { Double($0) }
}

func result(_ job: Job) async throws -> [String: Any] {
    let bundle = URL(fileURLWithPath: job.bundle)
    let manifest = try Manifest(bundle: bundle)
    if let prompts = job.prompts {
        let tokenizers = try manifest.text.encoders.map { try PromptTokenizer($0, bundle: bundle) }
        var tokens: [[[String: [Double]]]] = []
        for tokenizer in tokenizers {
            tokens.append(try prompts.map { prompt in try tokenizer.tokenize(prompt).mapValues(numbers) })
        }
        return ["words": prompts.map { prompt in splitWords(prompt) }, "tokens": tokens]
    }
    let runner = StandIn(manifest: manifest, pixels: (job.pixels ?? []).compactMap { pixel in Float(pixel) })
    let prompt = job.prompt ?? "", seed = job.seed ?? 0, scale = job.loraScale ?? 1
    let latents = try await drawLatents(
        prompt: prompt, seed: seed, steps: job.steps, loraScale: scale, bundle: bundle, manifest: manifest,
        runner: runner)
    let image = try await draw(
        prompt: prompt, seed: seed, steps: job.steps, loraScale: scale, bundle: bundle, manifest: manifest,
        runner: runner)
    let noise: [String] = PortableNoise.noise(seed: seed, count: latents.floats.count).map { number in
        String(number.bitPattern, radix: 16)
    }
    return ["noise": noise, "latents": numbers(latents), "image": image.map { Int($0) }]
}

var results: [[String: Any]] = []
let jobs = try JSONDecoder().decode([Job].self, from: Data(contentsOf: URL(fileURLWithPath: CommandLine.arguments[1])))
for job in jobs {
    do {
        results.append(try await result(job))
    } catch {
        results.append(["error": error.localizedDescription])
    }
}
print(String(data: try JSONSerialization.data(withJSONObject: results), encoding: .utf8)!)
