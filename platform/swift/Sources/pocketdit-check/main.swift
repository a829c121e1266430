// Prints the results of the Swift package for a bundle as JSON, so that tests can compare the results with Python:
//
//     pocketdit-check BUNDLE SEED PROMPT
//
// The bundle's packages are not executed. Instead, each output is a simple function of the inputs.
import Foundation
import PocketDiTBundle

struct Formula: PackageRunner {
    let manifest: Manifest

    func run(_ package: String, _ inputs: [String: Tensor]) async throws -> [String: Tensor] {
        let sums = inputs.mapValues { tensor in
            (tensor.floats.map(Double.init) + tensor.ids.map(Double.init)).enumerated().reduce(0) {
                $0 + $1.element * Double($1.offset % 7 + 1)
            }
        }
        let total = sums.values.reduce(0, +) / 1e4
        var outputs: [String: Tensor] = [:]
        for (name, type) in manifest.packages[package]?.outputs ?? [:] {
            let count = type.shape.reduce(1, *)
            outputs[name] = Tensor(type.shape, (0..<count).map { Float(sin(total + Double($0))) })
        }
        return outputs
    }
}

let words = CommandLine.arguments
let bundle = URL(fileURLWithPath: words[1])
let manifest = try Manifest(bundle: bundle)
let seed = UInt64(words[2])!, prompt = words[3]
let count = manifest.latents.channels * manifest.latents.height * manifest.latents.width
var tokens: [[String: [Double]]] = []
for encoder in manifest.text.encoders {
    tokens.append(try tokenize(prompt, encoder: encoder, bundle: bundle).mapValues {
        $0.floats.map(Double.init) + $0.ids.map(Double.init)
    })
}
let latents = try await drawLatents(
    prompt: prompt, seed: seed, bundle: bundle, manifest: manifest, runner: Formula(manifest: manifest))
let result: [String: Any] = [
    "noise": PortableNoise.noise(seed: seed, count: count).map { String($0.bitPattern, radix: 16) },
    "tokens": tokens,
    "latents": latents.floats.map(Double.init),
]
print(String(data: try JSONSerialization.data(withJSONObject: result), encoding: .utf8)!)
